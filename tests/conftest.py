"""What several tests need: digits, a network trained in seconds, MNIST where it is at hand, and no windows."""

import os
from pathlib import Path

import numpy as np
import pytest

import mnist_digits

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

os.environ["MPLBACKEND"] = "agg"
for screen in ("DISPLAY", "WAYLAND_DISPLAY"):
    os.environ.pop(screen, None)


def read_one(picture, **how):
    """Read one picture; return its reading."""
    (reading,) = mnist_digits.read_pictures(picture, **how)
    return reading


def to_batch(digits):
    """Return digits (N, 28, 28) as a network takes them."""
    return np.divide(digits[..., np.newaxis], 255, dtype=np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def data():
    """Return the digits of MNIST that are on every machine."""
    return mnist_digits.load_data("mnist-5k")


@pytest.fixture(scope="session")
def digits(data):
    """Return 64 digits of all labels, (64, 28, 28) uint8."""
    return data.x_train[::62][:64]


@pytest.fixture(scope="session")
def labels(data):
    """Return their labels, (64,)."""
    return data.y_train[::62][:64]


def save(path, data, every):
    """Save a part of a data set in Keras's layout; return the path."""
    arrays = {name: getattr(data, name)[::every] for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture(scope="session")
def small(data, tmp_path_factory):
    """Return a file with 400 digits to train with and 100 to test with: an epoch takes a second."""
    return save(tmp_path_factory.mktemp("data") / "small.npz", data, 10)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """Train on MNIST's 5,000 digits through the command line; return the output folder."""
    output = tmp_path_factory.mktemp("trained")
    file = save(tmp_path_factory.mktemp("data") / "mnist-5k.npz", data, 1)
    arguments = ["--train", str(ROOT / "samples"), "--data", file, "--epochs", "3", "--batch-size", "32"]
    assert mnist_digits.main([*arguments, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="session")
def mnist_file():
    """Return a file with MNIST: the one that the variable MNIST names, one beside the project, or Keras's copy."""
    known = os.environ.get("MNIST"), SHARED / "mnist.npz", Path.home() / ".keras" / "datasets" / "mnist.npz"
    path = next((Path(path) for path in known if path and Path(path).is_file()), None)
    return path or pytest.skip("no file with MNIST; name one with the variable MNIST")
