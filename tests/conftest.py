"""What several tests need: a network trained in seconds, MNIST where it is at hand, and no windows."""

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


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train on scikit-learn's digits through the command line; return the output folder."""
    output = tmp_path_factory.mktemp("trained")
    arguments = ["--train", str(ROOT / "samples"), "--data", "digits", "--epochs", "12", "--batch-size", "32"]
    assert mnist_digits.main([*arguments, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="session")
def mnist_file():
    """Return the file that holds MNIST, which a clone does not have."""
    path = SHARED / "mnist.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path
