"""Networks: what they are made of, what is measured of them, and that both ways of reading them agree."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from itertools import islice

import cv2
import numpy as np
import pytest
from conftest import ROOT, to_batch

import mnist_digits as md

SAMPLE = str(ROOT / "samples" / "4.png")
SHOWINGS = 4  # batches at most that an outlier is shown in


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
def test_every_network_reads_the_same_through_onnx_runtime_as_through_keras(network, small, batch, tmp_path):
    data = tmp_path / "dotted-1.2.npz"
    shutil.copy(small, data)
    command = ["--data", str(data), "--network", network, "--epochs", "1", "--no-plot", "--output", str(tmp_path)]
    assert md.main(command) == 0
    fast, slow = (md.load_network(tmp_path / f"dotted-1.2{suffix}")(batch) for suffix in (".onnx", ".keras"))
    assert np.allclose(fast, slow, atol=1e-4)
    assert np.allclose(fast.sum(axis=1), 1, atol=1e-5)


def test_what_is_measured_agrees_with_a_count_by_hand(trained, data):
    measured = json.loads((trained / "mnist-5k-metrics.json").read_text())
    probs = md.load_network(trained / "mnist-5k.onnx")(to_batch(data.x_test))
    read, labels, certain = probs.argmax(axis=1), data.y_test, probs.max(axis=1)
    right, one_hot = read == labels, np.eye(10)[labels]
    assert measured["accuracy"] == pytest.approx(right.mean())
    assert measured["loss"] == pytest.approx(-np.log(probs[one_hot == 1]).mean(), rel=1e-3)
    assert measured["confusion"] == [[int(((labels == i) & (read == j)).sum()) for j in range(10)] for i in range(10)]
    shares = [(right[labels == digit].mean(), right[read == digit].mean()) for digit in range(10)]
    assert np.transpose([measured["recall"], measured["precision"]]) == pytest.approx(np.array(shares))
    explained = 1 - ((probs - one_hot) ** 2).sum(axis=0) / ((one_hot - one_hot.mean(axis=0)) ** 2).sum(axis=0)
    assert measured["r2"] == pytest.approx(explained.mean(), rel=1e-3)
    classes = [(certain >= low / 15) & (certain < (low + 1) / 15) for low in range(15)]
    distances = [abs(certain[some].sum() - right[some].sum()) for some in classes]
    assert measured["ece"] == pytest.approx(sum(distances) / len(labels), abs=1e-3)


def test_the_validation_digits_are_no_training_digits(tmp_path):
    digits = np.arange(200, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    arrays = {"x_train": digits, "y_train": np.arange(200) % 10, "x_test": digits[200 - 10 :], "y_test": np.arange(10)}
    np.savez(tmp_path / "toy.npz", **arrays)
    data = md.load_data(str(tmp_path / "toy.npz"))
    x, _, x_validation, y_validation = md.split_off(data, 0.1)
    assert len(x_validation) == 20
    assert not set(x[:, 0, 0]) & set(x_validation[:, 0, 0])
    assert np.bincount(y_validation).tolist() == [2] * 10
    assert len(md.split_off(data, 0)[2]) == 0


def test_a_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    def half(figure, path, **how):
        path.write_text("half")
        raise RuntimeError

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    (tmp_path / "plot.png").write_text("earlier")
    with pytest.raises(RuntimeError):
        md.main([SAMPLE, "--plot", str(tmp_path / "plot.png")])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]


def test_a_write_that_cannot_be_is_one_sentence(tmp_path, capsys):
    (tmp_path / "plot.png").mkdir()
    assert md.main([SAMPLE, "--plot", str(tmp_path / "plot.png")]) == 1
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def test_training_leaves_everything_that_is_promised(trained):
    names = "mnist-5k.keras mnist-5k.onnx mnist-5k-metrics.json mnist-5k-history.csv"
    figures = "mnist-5k-history.png mnist-5k-confusion.png mnist-5k-mistakes.png predictions.png"
    assert {path.name for path in trained.iterdir()} == {*names.split(), *figures.split()}
    metrics = json.loads((trained / "mnist-5k-metrics.json").read_text())
    assert {"accuracy", "loss", "r2", "confusion", "parameters", "train_seconds"} <= metrics.keys()
    assert metrics["accuracy"] > 0.9
    confusion = np.array(metrics["confusion"])
    assert metrics["precision"] == pytest.approx(np.diag(confusion) / confusion.sum(axis=0)), "of each digit"
    asked = metrics["settings"]
    assert {"network", "seed", "learning_rate", "validation_split"} <= asked.keys()
    assert (asked["data"], asked["epochs"], asked["batch_size"]) == ("mnist-5k", 3, 32)
    assert metrics["versions"]["cv2"] == cv2.__version__
    assert {"numpy", "keras", "HersheyFonts"} <= metrics["versions"].keys()
    rows = list(csv.DictReader((trained / "mnist-5k-history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < rows[0].keys()


def test_what_json_has_no_word_for_is_saved_as_null(small, tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn.metrics.r2_score", lambda *_: math.nan)
    command = ["--data", small, "--network", "mlp", "--epochs", "1", "--no-plot", "--output", str(tmp_path)]
    assert md.main(command) == 0
    assert json.loads((tmp_path / "small-metrics.json").read_text())["r2"] is None


def test_keras_alone_loads_what_was_saved(trained, batch):
    import keras

    slow = keras.models.load_model(trained / "mnist-5k.keras").predict(batch, verbose=0)
    assert np.allclose(slow, md.load_network(trained / "mnist-5k.onnx")(batch), atol=1e-4)


def test_a_picture_is_read_as_the_digit_it_was_made_from(data, tmp_path):
    predict = md.load_network(md.BUNDLED)
    digits = data.x_test[::4]
    for number, digit in enumerate(digits):
        large = cv2.resize(digit, None, fx=7, fy=7, interpolation=cv2.INTER_LINEAR)
        large = cv2.copyMakeBorder(large, 40, 25, 15, 90, cv2.BORDER_CONSTANT, value=0)
        cv2.imwrite(str(tmp_path / f"{number}.png"), 255 - large if number % 2 else large)
    direct = predict(to_batch(digits)).argmax(axis=1)
    readings = md.read_pictures(tmp_path, predict)
    agreement = np.mean([reading.text == str(label) for reading, label in zip(readings, direct, strict=True)])
    assert agreement > 0.99


def test_one_epoch_on_mnist_is_a_good_network(mnist_file, tmp_path):
    assert md.main(["--data", str(mnist_file), "--epochs", "1", "--output", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.98
    assert metrics["settings"]["data"] == "mnist"


@pytest.fixture
def batch(digits):
    return to_batch(digits)


@pytest.fixture
def original():
    """Return Keras's own generator, in poses wide enough to show any difference."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    ranges = dict.fromkeys(("width_shift_range", "height_shift_range"), 0.1)
    return ImageDataGenerator(rotation_range=20, shear_range=20, zoom_range=0.2, **ranges)


def test_a_pose_looks_as_it_does_in_keras(batch, original):
    drawn = [original.get_random_transform((28, 28, 1)) for _ in batch]
    poses = {name: np.array([pose[name] for pose in drawn]) for name in ("theta", "shear", "tx", "ty", "zx", "zy")}
    theirs = np.stack([original.apply_transform(x, pose) for x, pose in zip(batch, drawn, strict=True)])
    assert np.abs(md.resample(batch, md.find_points(**poses)) - theirs).max() < 0.04, "1/32 pixel, OpenCV's old grid"


def test_poses_are_sampled_as_in_keras():
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    np.random.seed(0)
    original = ImageDataGenerator(**md.POSES)
    theirs = [original.get_random_transform((28, 28, 1)) for _ in range(5000)]
    ours = md.sample_poses(5000, np.random.default_rng(0))
    for name, values in ours.items():
        expected = np.array([pose[name] for pose in theirs])
        assert np.allclose(values.min(), expected.min(), atol=0.02 * np.ptp(expected)), name
        assert np.allclose(values.max(), expected.max(), atol=0.02 * np.ptp(expected)), name
        assert np.std(values) == pytest.approx(np.std(expected), rel=0.05), name


def test_any_number_of_digits_can_be_looked_at(batch):
    many = np.concatenate([batch] * 40)
    assert np.allclose(md.resample(many, md.find_points()), many, atol=1e-6)
    turned = md.find_points(theta=np.linspace(-30, 30, len(many)))
    assert np.allclose(md.resample(many, turned)[1500:1510], md.resample(many[1500:1510], turned[1500:1510]), atol=1e-3)


def test_outside_the_field_a_digit_goes_on_as_at_its_edge():
    gray = np.full((2, 28, 28, 1), 0.25, np.float32)
    gray[1] = 0.75
    moved = md.resample(gray, md.find_points(tx=20, ty=-20))
    assert np.allclose(moved, gray), "nothing of its neighbour"


def test_bends_and_other_pens_leave_a_digit_in_its_range_and_near_its_shape(digits):
    recipe = md.RECIPES["cnn"]._replace(batch_size=200, clean=0, outliers=0)
    varied, _ = next(md.make_batches(recipe, np.stack([digits[3]] * 200), np.zeros((200, 10)), seed=5))
    assert (varied.shape, varied.dtype) == ((200, 28, 28, 1), np.float32)
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert np.ptp(varied.sum(axis=(1, 2, 3))) > 0.5 * digits[3].sum() / 255, "from thin to thick"
    assert np.corrcoef(varied.mean(axis=0).flat, cv2.GaussianBlur(digits[3], (0, 0), 2).flat)[0, 1] > 0.8


def test_a_seed_makes_one_and_the_same_batch(digits, labels):
    recipe = md.RECIPES["cnn"]._replace(batch_size=32)
    first, second, other = (next(md.make_batches(recipe, digits, np.eye(10)[labels], seed)) for seed in (5, 5, 6))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


def test_batches_from_a_later_step_on_are_those_of_that_step(digits, labels):
    recipe, targets = md.RECIPES["cnn"]._replace(batch_size=16), np.eye(10)[labels]
    whole = list(islice(md.make_batches(recipe, digits, targets, 5), 12))
    later = islice(md.make_batches(recipe, digits, targets, 5, step=4), 8)  # an epoch has four steps
    for (x, answers), (x_later, answers_later) in zip(whole[4:], later, strict=True):
        assert np.array_equal(x, x_later)
        assert np.array_equal(answers, answers_later)


def test_each_of_the_others_is_shown_a_few_times_and_never_twice_in_a_batch(digits, labels):
    recipe = md.RECIPES["cnn"]._replace(batch_size=40, outliers=1 / 4, augment=False)
    shown = Counter()
    for x, targets in islice(md.make_batches(recipe, digits, np.eye(10)[labels], 5), 40):
        outliers = [digit.tobytes() for digit, target in zip(x, targets, strict=True) if target.max() < 0.5]
        assert len(set(outliers)) == len(outliers)
        shown.update(outliers)
    assert max(shown.values()) <= SHOWINGS
    assert len(shown) > 40 * 40 / 4 / 2 / SHOWINGS / 2


def test_a_share_of_each_batch_stays_as_it_is(digits):
    recipe = md.RECIPES["cnn"]._replace(batch_size=50, clean=0.2, outliers=0)
    batches = md.make_batches(recipe, digits, np.arange(64), seed=5)
    for size in (50, 14):
        x, order = next(batches)
        clean = (x == to_batch(digits[order])).all(axis=(1, 2, 3))
        assert x.shape == (size, 28, 28, 1)
        assert clean.sum() == round(0.2 * size)


@pytest.mark.parametrize(("devices", "added"), [(1, 15), (4, 16), (6, 12)])
def test_others_stand_anywhere_in_a_batch_and_leave_it_even_for_all_devices(devices, added, digits, labels):
    recipe = md.RECIPES["cnn"]._replace(batch_size=60, outliers=1 / 4)
    batches = md.make_batches(recipe, digits[:60], np.eye(10)[labels[:60]], seed=5, devices=devices)
    doubted = np.zeros(100)
    for _ in range(40):
        x, targets = next(batches)
        assert len(x) == len(targets)
        assert len(x) % devices == 0
        assert abs(len(x) - 60 - added) <= devices
        doubted[: len(x)] += targets.max(axis=1) < 0.5
    assert doubted[:30].sum() == pytest.approx(doubted[30:60].sum(), rel=0.4)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_smallest_batches_get_others_of_both_kinds_in_time(size, digits, labels):
    recipe = md.RECIPES["cnn"]._replace(batch_size=size, outliers=1 / 4)
    batches = md.make_batches(recipe, digits, np.eye(10)[labels], seed=5)
    targets = np.concatenate([next(batches)[1] for _ in range(4 * math.ceil(64 / size))])
    doubted = (targets.max(axis=1) < 0.5).sum()
    assert doubted == pytest.approx(36, abs=16)
    assert len(targets) - 4 * 64 - doubted == pytest.approx(28, abs=16)


def test_without_augmentation_the_digits_come_as_they_are(digits):
    x, order = next(md.make_batches(md.RECIPES["mlp"], digits, np.arange(64), seed=5))
    assert np.array_equal(x, to_batch(digits[order]))


def test_an_ensemble_answers_with_the_mean_of_its_networks(batch):
    networks = [md.build_network(md.RECIPES["cnn"]) for _ in range(3)]
    mean = np.mean([network.predict(batch, verbose=0) for network in networks], axis=0)
    assert np.allclose(md.make_ensemble(networks).predict(batch, verbose=0), mean, atol=1e-5)


@pytest.mark.parametrize(
    ("devices", "recipe"),
    [(2, "--network cnn --epochs 3"), (3, "--network mlp --epochs 2 --learning-rate 0.01")],
)
def test_batches_are_spread_evenly_over_several_devices(devices, recipe, small, tmp_path):
    program = f"""
import sys, mnist_digits as md
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * {devices})
spread = tf.distribute.MirroredStrategy
tf.distribute.MirroredStrategy = lambda devices: print("devices", len(devices)) or spread(devices)
for output in "ab":
    assert md.main(["--data", {small!r}, "--no-plot", "--output", output, *sys.argv[1:]]) == 0
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *recipe.split(), "--batch-size", "32"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"devices {devices}\n") == 2
    assert json.loads((tmp_path / "a" / "small-metrics.json").read_text())["accuracy"] > 0.5
    assert (tmp_path / "a" / "small-history.csv").read_text() == (tmp_path / "b" / "small-history.csv").read_text()


def outliers_of(digits, labels, count, seed=3):
    """Return so many outliers as training shows them, not augmented, and their targets."""
    recipe = md.RECIPES["cnn"]._replace(batch_size=len(digits), outliers=200 / len(digits), augment=False)
    known, found = {digit.tobytes() for digit in digits}, {}
    for x, targets in md.make_batches(recipe, digits, np.eye(10, dtype=np.float32)[labels], seed):
        for digit, target in zip(np.rint(255 * x[..., 0]).astype(np.uint8), targets, strict=True):
            if digit.tobytes() not in known:
                found[digit.tobytes()] = digit, target
        if len(found) >= count:
            return map(np.stack, zip(*islice(found.values(), count), strict=True))


def test_outliers_are_redrawn_digits_and_no_digits(digits, labels):
    outliers, targets = outliers_of(digits, labels, 600)
    is_digit = targets.max(axis=1) == 1
    assert np.allclose(targets[~is_digit], 0.1)
    assert is_digit.mean() == pytest.approx(0.5, abs=0.1)
    assert (outliers.max(axis=(1, 2)) > 200).mean() > 0.9


def test_redrawn_digits_keep_their_labels_and_their_shapes(digits, labels):
    once = [np.flatnonzero(labels == label)[0] for label in (0, 3, 5, 6, 8)]  # labels that no drawn digit has
    outliers, targets = outliers_of(digits[once], labels[once], 300)
    likeness = []
    for outlier, target in zip(outliers, targets, strict=True):
        if target.max() == 1 and target.argmax() in {0, 3, 5, 6, 8}:
            original = digits[once][[0, 3, 5, 6, 8].index(target.argmax())]
            smooth = [cv2.GaussianBlur(digit, (0, 0), 2).flat for digit in (outlier, original)]
            likeness.append(np.corrcoef(*smooth)[0, 1])
    assert len(likeness) > 60
    assert np.mean(np.array(likeness) > 0.7) > 0.9, "but for some beside what is left of a box"
    assert min(likeness) > 0.5


def test_the_rarest_of_each_label_are_redrawn_most():
    digits = np.zeros((80, 28, 28), np.uint8)
    digits[:, 4:24, 12:16] = 255
    digits[[3, 45]] = 0
    digits[[3, 45], 12:16, 4:24] = 255
    outliers, targets = outliers_of(digits, np.repeat([0, 3], 40), 500)
    redrawn = outliers[np.isin(targets.argmax(axis=1), [0, 3]) & (targets.max(axis=1) == 1)]
    lying = [np.ptp(np.nonzero(digit)[1]) > np.ptp(np.nonzero(digit)[0]) for digit in redrawn]
    assert np.mean(lying) > 3 * 2 / 80


def test_outliers_can_be_drawn_of_a_small_set_with_blanks_and_missing_labels(digits, labels):
    blank = np.zeros_like(digits)
    for some, own, doubted in ((np.concatenate([blank[:1], digits]), np.ones(65, int), 208), (blank, labels, 352)):
        outliers, targets = outliers_of(some, own, 400)
        assert outliers.shape == (400, 28, 28)
        assert targets.shape == (400, 10)
        assert (targets.max(axis=1) < 0.5).sum() == pytest.approx(doubted, abs=30)


def test_calibration_makes_confidence_mean_what_it_says():
    import keras

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    batch = np.eye(10)[labels] * 2 + rng.normal(0, 1, (4000, 10))
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(10, activation="softmax", use_bias=False)])
    model.set_weights([np.eye(10) * 8])  # the best possible answers are given at 2; at 8 they are far too certain
    before = model.predict(batch, verbose=0)
    after = md.calibrate(model, 0, batch, np.eye(10)[labels]).predict(batch, verbose=0)
    right = after.argmax(axis=1) == labels
    assert np.array_equal(before.argmax(axis=1), after.argmax(axis=1))
    assert abs(before.max(axis=1).mean() - right.mean()) > 0.1
    assert abs(after.max(axis=1).mean() - right.mean()) < 0.02


def test_calibration_undoes_smoothing_and_leaves_doubt():
    import keras

    model = keras.Sequential([keras.Input((10,)), keras.layers.Activation("softmax")])
    certain, doubtful = np.full(10, 0.005), np.full(10, 0.07)
    certain[3], doubtful[3] = 0.955, 0.37  # what a smoothing of 0.05 leaves of certainty, and of a doubt
    batch = np.log(np.stack([certain] * 99 + [doubtful]))
    targets = np.eye(10)[[3] * 99 + [5]]
    probs = md.calibrate(model, 0.05, batch, targets).predict(np.log([certain, doubtful]), verbose=0)
    assert probs[0, 3] > 0.99
    assert probs[1, 3] < 0.5
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_accuracy_in_training_counts_digits_only():
    targets = np.vstack([np.eye(10)[[3, 4]], np.full((2, 10), 0.1)]).astype(np.float32)
    probs = np.eye(10)[[3, 5, 0, 0]].astype(np.float32)
    assert float(md.digit_accuracy(targets, probs)) == 0.5
