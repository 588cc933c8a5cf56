"""Networks: what they are made of, what is measured of them, and that both ways of reading them agree."""

import csv
import json

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

import mnist_digits as md


def layer_names(network):
    return [type(layer).__name__ for layer in md.RECIPES[network].layers()]


def test_classic_is_what_its_name_promises():
    layers = md.RECIPES["classic"].layers()
    names = layer_names("classic")
    assert names[:6] == ["Conv2D", "BatchNormalization"] * 3
    assert (names.count("MaxPooling2D"), names.count("Dropout")) == (1, 2)
    hidden = [layer for layer in layers if type(layer).__name__ == "Dense"][:-1]
    assert [layer.units for layer in hidden] == [256] * 3
    assert all(layer.kernel_regularizer for layer in hidden)


def test_lenet5_has_five_layers_and_mlp_three():
    assert layer_names("lenet5") == ["Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "Flatten", "Dense"]
    assert layer_names("mlp") == ["Flatten", "Dense", "Dense", "Dense"]


@pytest.mark.parametrize("network", md.RECIPES)
def test_every_network_reads_the_same_through_opencv_as_through_keras(network, tmp_path):
    model = md.build_network(md.RECIPES[network], steps=10)
    model.predict(np.zeros((1, 28, 28, 1), np.float32), verbose=0)
    md.save_network(model, tmp_path / network)
    batch = np.random.default_rng(3).random((7, 28, 28, 1), np.float32)
    fast = md.load_network(tmp_path / f"{network}.onnx")(batch)
    slow = md.load_network(tmp_path / f"{network}.keras")(batch)
    assert np.allclose(fast, slow, atol=1e-5)
    assert np.allclose(fast.sum(axis=1), 1, atol=1e-5)


def test_what_is_measured_agrees_with_a_count_by_hand():
    labels = np.array([0, 0, 1, 2])
    probs = np.full((4, 10), 0.02)
    probs[[0, 1, 2, 3], [0, 1, 1, 2]] = 0.82
    measured = md.measure(probs, labels)
    assert measured["accuracy"] == 0.75
    assert measured["loss"] == pytest.approx(-(3 * np.log(0.82) + np.log(0.02)) / 4)
    assert measured["confusion"][0][:2] == [1, 1]
    assert measured["precision"][1] == 0.5
    assert measured["recall"][0] == 0.5
    assert "75.00% of 4 test digits" in md.report(measured, 4)


def test_the_validation_digits_are_no_training_digits():
    digits = np.arange(200, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    data = md.Data("toy", digits, np.arange(200) % 10, digits[:1], np.zeros(1, int))
    x, _, x_validation, y_validation = md.split_off(data, 0.1, seed=0)
    assert len(x_validation) == 20
    assert not set(x[:, 0, 0]) & set(x_validation[:, 0, 0])
    assert np.bincount(y_validation).tolist() == [2] * 10
    assert len(md.split_off(data, 0, seed=0)[2]) == 0


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "network.onnx"
    path.write_text("earlier")
    with pytest.raises(RuntimeError), md.written_whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_training_leaves_everything_that_is_promised(trained):
    names = "digits.keras digits.onnx metrics.json history.csv history.png confusion.png mistakes.png predictions.png"
    assert {path.name for path in trained.iterdir()} == set(names.split())
    metrics = json.loads((trained / "metrics.json").read_text())
    promised = "accuracy loss r2 confusion parameters train_seconds data network seed epochs batch_size learning_rate"
    assert set(promised.split()) <= metrics.keys()
    assert metrics["accuracy"] > 0.9
    assert (metrics["data"], metrics["epochs"], metrics["batch_size"]) == ("digits", 12, 32)
    assert metrics["versions"]["opencv"] == cv2.__version__
    rows = list(csv.DictReader((trained / "history.csv").open()))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 13)]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < rows[0].keys()


def test_a_picture_is_read_as_the_digit_it_was_made_from(trained, tmp_path):
    predict = md.load_network(trained / "digits.onnx")
    digits = np.stack([md.enlarge_digit(image) for image in load_digits().images[:300]])
    for number, digit in enumerate(digits):
        large = cv2.resize(digit, None, fx=7, fy=7, interpolation=cv2.INTER_LINEAR)
        large = cv2.copyMakeBorder(large, 40, 25, 15, 90, cv2.BORDER_CONSTANT, value=0)
        cv2.imwrite(str(tmp_path / f"{number}.png"), 255 - large if number % 2 else large)
    direct = predict(md.to_batch(digits)).argmax(axis=1)
    readings = md.read_pictures(md.picture_paths([str(tmp_path)]), predict)
    agreement = np.mean([reading.text == str(label) for reading, label in zip(readings, direct, strict=True)])
    assert agreement > 0.97


def test_one_epoch_on_mnist_is_a_good_network(mnist_file, tmp_path):
    assert md.main(["--data", str(mnist_file), "--epochs", "1", "--output", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.98
    assert metrics["data"] == "mnist"
