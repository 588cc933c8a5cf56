"""Data sets: every layout that is promised loads, and what is wrong with an array is named."""

import gzip
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import mnist_digits as md


def small_set(count=20):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return x, np.arange(count) % 10


def save_npz(path, **changes):
    x, y = small_set()
    np.savez(path, **({"x_train": x, "y_train": y, "x_test": x[:5], "y_test": y[:5]} | changes))
    return str(path)


def idx(array, code):
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype({8: ">u1", 12: ">i4"}[code]).tobytes()


def save_idx(folder, zipped=False):
    x, y = small_set()
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", x), ("labels-idx1", y)):
            content = idx(array, 8)
            path = folder / f"{part}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
    return x, y


def test_an_npz_file_in_keras_layout_loads(tmp_path):
    data = md.load_data(save_npz(tmp_path / "mine.npz"))
    assert data.name == "mine"
    assert data.x_train.shape == (20, 28, 28)
    assert data.y_test.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("zipped", [False, True])
def test_the_four_original_files_load(zipped, tmp_path):
    x, y = save_idx(tmp_path, zipped)
    data = md.load_data(str(tmp_path))
    assert np.array_equal(data.x_train, x)
    assert np.array_equal(data.y_test, y)


def test_emnist_is_turned_upright(tmp_path):
    x, y = small_set()
    for part in ("train", "test"):
        (tmp_path / f"emnist-digits-{part}-images-idx3-ubyte").write_bytes(idx(x, 8))
        (tmp_path / f"emnist-digits-{part}-labels-idx1-ubyte").write_bytes(idx(y, 8))
    assert np.array_equal(md.load_data(str(tmp_path)).x_train, x.transpose(0, 2, 1))


def test_the_label_is_taken_from_what_qmnist_tells_of_a_digit(tmp_path):
    x, y = small_set()
    extended = np.stack([y, *[np.full_like(y, 99)] * 7], axis=1)
    for part in ("train", "test"):
        (tmp_path / f"qmnist-{part}-images-idx3-ubyte").write_bytes(idx(x, 8))
        (tmp_path / f"qmnist-{part}-labels-idx2-int").write_bytes(idx(extended, 12))
    assert np.array_equal(md.load_data(str(tmp_path)).y_train, y)


def test_a_fifth_of_the_digits_that_are_on_every_machine_is_their_test_part(data):
    assert (data.name, data.x_train.dtype) == ("mnist-5k", np.uint8)
    assert np.bincount(data.y_train).tolist() == [400] * 10
    assert np.bincount(data.y_test).tolist() == [100] * 10
    assert len(np.unique(np.concatenate([data.x_train, data.x_test]), axis=0)) == 5000


def test_the_digits_that_are_on_every_machine_are_none_of_mnists_test_digits(data, mnist_file):
    mnist = md.load_data(str(mnist_file))
    known = dict(zip(map(np.ndarray.tobytes, mnist.x_train), mnist.y_train, strict=True))
    digits, labels = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    assert [known[digit.tobytes()] for digit in digits] == labels.tolist()
    assert not {digit.tobytes() for digit in mnist.x_test} & {digit.tobytes() for digit in digits}


X, Y = small_set()
FAULTS = {
    "of shape (20, 28)": {"x_train": X[:, 0]},
    "of type float64": {"x_train": X / 255},
    "of shape (19,) for 20": {"y_train": Y[:19]},
    "labels of type float64": {"y_train": Y / 1},
    "no pictures": {"x_test": X[:0], "y_test": Y[:0]},
    "pixels from 0 to 1": {"x_train": X // 128},
    "labels from 1 to 10": {"y_test": Y[:5] + 1, "y_train": Y + 1},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_an_array_is_named(fault, tmp_path):
    with pytest.raises(md.InputError, match=r"wrong\.npz: the (train|test) part has ") as raised:
        md.load_data(save_npz(tmp_path / "wrong.npz", **FAULTS[fault]))
    assert fault in str(raised.value)


def test_pickled_truncated_and_incomplete_files_are_refused(tmp_path):
    pickled = save_npz(tmp_path / "pickled.npz", x_train=np.array([{}], dtype=object))
    whole = (tmp_path / "pickled.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "bare.npz", x_train=X)
    for path, sentence in (
        (pickled, "allow_pickle"),
        (tmp_path / "half.npz", "not a complete"),
        ("bare.npz", "x_train"),
    ):
        with pytest.raises(md.InputError, match=sentence):
            md.load_data(str(tmp_path / path))


BAD_IDX_FILES = {
    "short": idx(X, 8)[:-1],
    "long": bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 28, 28),
    "packed": gzip.compress(idx(X, 8) + bytes(10**8)),
    "other": b"PK\3\4",
    "axes": bytes([0, 0, 8, 255]) + bytes(4 * 255),
    "empty": b"",
}


@pytest.mark.parametrize("name", BAD_IDX_FILES)
def test_an_idx_file_of_the_wrong_length_is_refused(name, tmp_path):
    save_idx(tmp_path)
    bad = tmp_path / ("train-images-idx3-ubyte" + ".gz" * (name == "packed"))
    (tmp_path / "train-images-idx3-ubyte").unlink()
    bad.write_bytes(BAD_IDX_FILES[name])
    with pytest.raises(md.InputError, match="download it again"):
        md.load_data(str(tmp_path))


def test_where_mnist_cannot_be_downloaded_its_part_on_every_machine_takes_its_place(tmp_path):
    nowhere = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path / "keras")}
    command = [sys.executable, str(ROOT / "mnist_digits.py"), "--network", "mlp", "--epochs", "3"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | nowhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    downloading, warning, instead, *_ = done.stderr.splitlines()
    assert downloading.startswith("Downloading data from ")
    assert warning.startswith("warning: could not download MNIST (")
    assert warning.endswith("check the connection or pass a copy of MNIST with --data FILE")
    assert instead.startswith("training on mnist-5k instead: 4,000 digits")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "output" / "mnist-5k.onnx").is_file()
    assert not (tmp_path / "output" / "mnist.onnx").exists()
    assert len(done.stdout.splitlines()) > 12, "the table and the samples"
