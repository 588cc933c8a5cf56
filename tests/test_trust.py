"""Trust: whatever comes in, nothing is lost, nothing crashes, and what comes out can be parsed."""

import csv
import gzip
import io
import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from conftest import ROOT, read_one
from draw_samples import BLACK, pen, plain, write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import mnist_digits as md

SAMPLE = ROOT / "samples" / "4.png"
SUFFIXES = (".png", ".jpg", ".webp", ".tiff", ".bmp", ".gif")
TRAINING = ["--network", "cnn", "--epochs", "4", "--batch-size", "64", "--no-plot"]


def train(output, *more, until=None):
    """Run a training; kill it, as no program can prevent, after a line on stderr that begins with `until`."""
    command = [sys.executable, str(ROOT / "mnist_digits.py"), *TRAINING, "--output", str(output), *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if until and line.startswith(until):
            process.kill()
    return process.wait(), "".join(lines)


def test_a_training_killed_and_resumed_ends_as_if_never_stopped(small, tmp_path):
    never, killed = tmp_path / "never", tmp_path / "killed"
    assert md.main([*TRAINING, "--data", small, "--output", str(never)]) == 0
    killed.mkdir()
    shutil.copy(never / "small.onnx", killed)
    for line in ("training", "epoch 1", "epoch 3"):
        assert train(killed, "--data", small, until=line)[0] != 0
        assert len(list(md.read_pictures([str(SAMPLE)], md.load_network(killed / "small.onnx")))) == 1
    another = [*TRAINING, "--data", small, "--output", str(killed), "--epochs", "1", "--seed", "5"]
    assert md.main(another) == 0, "another command in between"
    (checkpoint,) = killed.glob("checkpoint/*/seed-0.weights.json")
    seconds = json.loads(checkpoint.read_text())["seconds"]
    status, err = train(killed, "--data", small)
    assert status == 0
    assert "continuing the training that was stopped" in err
    assert "epoch 4/4" in err
    assert "epoch 2/4" not in err
    expected, metrics = (json.loads((folder / "small-metrics.json").read_text()) for folder in (never, killed))
    del expected["train_seconds"]
    assert metrics.pop("train_seconds") > sum(seconds[:3]) - 0.1, "those before it was killed count"
    assert metrics == expected
    assert (killed / "small-history.csv").read_text() == (never / "small-history.csv").read_text()
    assert not (killed / "checkpoint").exists()


def test_a_stopped_training_can_be_started_again_and_a_damaged_one_says_so(small, tmp_path, capsys):
    assert train(tmp_path, "--data", small, until="epoch 2")[0] != 0
    (checkpoint,) = tmp_path.glob("checkpoint/*/*.weights.h5")
    checkpoint.write_bytes(b"damaged")
    again = [*TRAINING, "--data", small, "--output", str(tmp_path)]
    assert md.main(again) == 1
    assert "damaged checkpoint; start again with --restart" in capsys.readouterr().err
    assert md.main([*again, "--restart"]) == 0
    assert "epoch 1/4" in capsys.readouterr().err


def test_two_trainings_in_one_folder_do_not_mix(small, tmp_path, capsys):
    from filelock import FileLock

    (tmp_path / "checkpoint").mkdir()
    with FileLock(tmp_path / "checkpoint" / "lock"):
        assert md.main([*TRAINING, "--data", small, "--output", str(tmp_path)]) == 1
    assert "in use by another training" in capsys.readouterr().err


def test_a_full_disk_is_told_before_training(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(md, "NETWORK_BYTES", 1e18)
    assert md.main([*TRAINING, "--data", small, "--output", str(tmp_path)]) == 1
    assert "free some" in capsys.readouterr().err


def draw(rng, suffix):
    """Draw one digit, sometimes in colour or with alpha, and encode it."""
    page = plain(*rng.integers(20, 120, 2))
    size = int(min(page.shape[:2]) * 0.7)
    write(page, pen(str(rng.integers(10)), size, max(size / 12, 1), rng), 3, 3, BLACK)
    if suffix == ".png" and rng.random() < 0.3:
        page = cv2.cvtColor(page, cv2.COLOR_BGR2BGRA)
    if suffix in {".png", ".tiff"} and rng.random() < 0.2:
        page = page.astype(np.uint16) * 257
    return cv2.imencode(suffix, page)[1]


def mutate(content, rng):
    """Change, cut or repeat some of a file's bytes."""
    content = content.copy()
    for _ in range(rng.integers(1, 6)):
        place, length = rng.integers(len(content)), int(rng.integers(1, 9))
        kind = rng.integers(4)
        if kind == 0:
            content[place : place + length] = rng.integers(0, 256, len(content[place : place + length]))
        elif kind == 1:
            content[place] ^= 1 << rng.integers(8)
        elif kind == 2:
            content = np.concatenate([content[:place], content[place + length :], content[:1]])
        else:
            content[place : place + length] = rng.choice([0, 255, 127, 128])
    return content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.2 else content


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_picture_is_read_or_refused(suffix, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / f"picture{suffix}"
    for _ in range(int(os.environ.get("FUZZ_CASES", "2400")) // len(SUFFIXES)):
        mutate(draw(rng, suffix), rng).tofile(path)
        reading = read_one(path)
        assert reading.error or len(reading.digits)


def bomb(width, height):
    """Make a small PNG that claims to be large."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width + 1) * min(height, 3))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 20_000), (2**31 - 1, 1), (1, 100_000)])
def test_a_picture_that_claims_to_be_huge_is_refused(size, tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(*size))
    assert read_one(path).error


@pytest.mark.parametrize("orientation", range(10))
def test_exif_turns_a_photo(orientation, tmp_path):
    page = plain(200, 120)
    write(page, pen("7", 120, 10, np.random.default_rng(0)), 25, 40, BLACK)
    turns = {3: [cv2.ROTATE_180], 6: [cv2.ROTATE_90_COUNTERCLOCKWISE], 8: [cv2.ROTATE_90_CLOCKWISE]}
    for turn in turns.get(orientation, []):
        page = cv2.rotate(page, turn)
    flips = {2: 1, 4: 0, 5: None, 7: None}
    if flips.get(orientation) is not None:
        page = cv2.flip(page, flips[orientation])
    elif orientation == 5:
        page = cv2.transpose(page)
    elif orientation == 7:
        page = cv2.rotate(cv2.transpose(page), cv2.ROTATE_180)
    jpeg = cv2.imencode(".jpg", page)[1].tobytes()
    tags = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tags) + 2) + tags + jpeg[2:])
    assert read_one(path).text == "7"


def seven():
    """Draw a 7 in black on white: (240, 160) uint8."""
    page = plain(240, 160)
    write(page, pen("7", 150, 12, np.random.default_rng(0)), 30, 40, BLACK)
    return page[:, :, 0]


def with_nan(gray):
    """Return a picture as floats of which some are no numbers and some are infinite."""
    picture = gray.astype(np.float32) / 255
    picture[:2], picture[2:4] = np.nan, np.inf
    return picture


def on_nothing(gray):
    """Return a picture as gray and alpha: black ink on transparent paper."""
    return Image.merge("LA", (Image.new("L", gray.shape[::-1]), Image.fromarray(255 - gray)))


def in_palette(gray):
    """Return a picture with sixteen colours of which that of the paper is transparent."""
    picture = Image.fromarray(gray).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    picture.info["transparency"] = picture.getpixel((2, 2))
    return picture


ANIMATED = {"save_all": True, "append_images": [Image.new("L", (160, 240), 255)] * 2}
KINDS = {
    "cmyk.jpg": lambda gray: Image.fromarray(gray).convert("CMYK"),
    "cmyk.tif": lambda gray: Image.fromarray(gray).convert("CMYK"),
    "one bit.png": lambda gray: Image.fromarray(gray).convert("1"),
    "one bit.tif": lambda gray: Image.fromarray(gray).convert("1"),
    "16 bits.png": lambda gray: Image.fromarray(gray.astype(np.uint16) * 257),
    "16 bits.tif": lambda gray: Image.fromarray(gray.astype(np.uint16) * 257),
    "32 bits.tif": lambda gray: Image.fromarray(gray.astype(np.int32) * 200),
    "floats.tif": lambda gray: Image.fromarray(with_nan(gray)),
    "gray and alpha.png": on_nothing,
    "gray and alpha.webp": on_nothing,
    "palette.png": in_palette,
    "palette.gif": in_palette,
    **{f"animated{suffix}": Image.fromarray for suffix in (".gif", ".png", ".tif", ".webp")},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_is_read(name, tmp_path):
    KINDS[name](seven()).save(tmp_path / name, **ANIMATED if name.startswith("animated") else {})
    assert read_one(tmp_path / name).text == "7"


@pytest.mark.parametrize("picture", [np.full((40, 40), np.nan, np.float32), np.zeros((40, 40, 4), np.uint8)])
def test_a_picture_of_nothing_is_refused(picture, tmp_path):
    path = tmp_path / "picture.tiff"
    cv2.imwrite(str(path), picture)
    assert read_one(path).error


def test_a_file_larger_than_any_picture_is_not_read(tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(10**12)
    assert read_one(tmp_path / "large.png").error.startswith("more than 268 MB; ")


NAMES = [
    "tab\there.png",
    "line\nbreak.png",
    'quote".png',
    "comma,.png",
    "-dash.png",
    "zwölf.png",
    os.fsdecode(b"\xff\xfe.png"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, such names cannot be")
def test_any_name_leaves_the_output_parseable(tmp_path):
    for name in NAMES:
        shutil.copy(SAMPLE, tmp_path / name)
    read = [sys.executable, str(ROOT / "mnist_digits.py"), str(tmp_path), "--model", str(md.BUNDLED), "--no-plot"]

    def run(*more, **variables):
        done = subprocess.run([*read, *more], capture_output=True, env=os.environ | {"LC_ALL": "C"} | variables)
        assert (done.returncode, done.stderr.count(b"\n")) == (0, 1), "nothing but which network reads"
        return done.stdout.decode()

    lines = run().splitlines()
    assert len(lines) == len(NAMES)
    assert all(len(line.split("\t")) == 3 for line in lines)
    assert len(run(PYTHONIOENCODING="ascii").splitlines()) == len(NAMES)
    paths = {json.loads(line)["path"] for line in run("--json").splitlines()}
    assert paths == {os.fsencode(tmp_path / name).decode("utf-8", "backslashreplace") for name in NAMES}
    assert len(list(csv.DictReader(io.StringIO(run("--csv"), newline="")))) == len(NAMES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert "pipe or device" in read_one(tmp_path / "pipe.png").error
    assert "pipe or device" in read_one("/dev/zero").error
    assert read_one(tmp_path).path == str(tmp_path), "neither the pipe nor the loop"


def test_a_file_that_vanishes_does_not_stop_the_others(trained, tmp_path):
    shutil.copy(SAMPLE, tmp_path / "2.png")
    paths = [str(tmp_path / name) for name in ("1.png", "2.png")]
    readings = list(md.read_pictures(paths, md.load_network(trained / "mnist-5k.onnx")))
    assert [bool(reading.page.error) for reading in readings] == [True, False]


@pytest.mark.parametrize("name", ["data.npz", "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
def test_damaged_data_is_loaded_or_refused(name, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / name
    x, y = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
    if name == "data.npz":
        np.savez(path, x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    else:
        images = bytes([0, 0, 8, 3]) + struct.pack(">3I", *x.shape) + x.tobytes()
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", *y.shape) + y.tobytes()
        path.write_bytes(gzip.compress(images) if name.endswith(".gz") else images)
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
        for part in ("train", "t10k"):
            (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    source = str(path if name == "data.npz" else tmp_path)
    md.load_data(source)
    content = np.fromfile(path, np.uint8)
    for _ in range(300):
        mutate(content, rng).tofile(path)
        with suppress(md.InputError):
            md.load_data(source)


def test_a_network_that_carries_code_is_refused(tmp_path):
    import keras

    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Lambda(lambda x: x[:, 0, :10, 0])])
    network.save(tmp_path / "code.keras")
    with pytest.raises(md.InputError, match="not a usable network"):
        md.load_network(tmp_path / "code.keras")


def test_a_damaged_network_is_refused(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "network.onnx"
    content = np.fromfile(md.BUNDLED, np.uint8)
    structure = np.r_[:300, len(content) - 6000 : len(content)]  # the rest are weights
    content[:-1].tofile(path)
    assert md.main([str(SAMPLE), "--model", str(path)]) == 1
    for _ in range(60):
        damaged = content.copy()
        damaged[rng.choice(structure, 3)] = rng.integers(0, 256, 3)
        damaged.tofile(path)
        with suppress(md.InputError):
            md.load_network(path)
        assert md.main(["--model-info", "--model", str(path)]) in {0, 1}


def test_a_damaged_keras_file_is_refused(trained, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "network.keras"
    content = np.fromfile(trained / "mnist-5k.keras", np.uint8)
    for _ in range(10):
        mutate(content, rng).tofile(path)
        with suppress(md.InputError):
            md.load_network(path)


def test_a_network_as_large_as_no_digits_need_is_refused(tmp_path, capsys):
    path = tmp_path / "network.onnx"
    path.write_bytes(bytes(45 * 10**6))
    for way in ([str(SAMPLE), "--no-plot"], ["--model-info"]):
        assert md.main([*way, "--model", str(path)]) == 1
        assert "MB, more than 40; give a network for digits" in capsys.readouterr().err


def onnx_network(path, shape, answers):
    """Save a network of one product: pictures of `shape` in, so many answers out."""
    from onnx import TensorProto, helper, numpy_helper, save

    size = int(np.prod(shape))
    nodes = [
        helper.make_node("Reshape", ["x", "size"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["y"]),
    ]
    tensors = {"size": np.array([-1, size]), "weights": np.ones((size, answers), np.float32)}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", answers])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.mark.parametrize(("shape", "answers"), [((28, 28, 1), 26), ((32, 32, 3), 10), ((28, 28, 1), 1)])
def test_a_network_for_something_else_is_refused(shape, answers, tmp_path, capsys):
    onnx_network(tmp_path / "digits.onnx", (28, 28, 1), 10)
    md.load_network(tmp_path / "digits.onnx")
    onnx_network(tmp_path / "other.onnx", shape, answers)
    assert md.main([str(SAMPLE), "--model", str(tmp_path / "other.onnx")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'other.onnx'}: ")


def in_shell(arguments, redirection):
    """Run the script with its outputs where a shell's redirection sends them."""
    command = shlex.join([sys.executable, str(ROOT / "mnist_digits.py"), *map(str, arguments)])
    return subprocess.run(f"{command} {redirection}", shell=True, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's way to close them")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_outputs_end_it_quietly(closed):
    done = in_shell([SAMPLE, "gone.png", "--model", md.BUNDLED, "--no-plot"], closed)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ([] if "2" in closed else ["error: gone.png: no such file; check the path"])
    assert done.stdout == ("" if closed.startswith(">") else f"{SAMPLE}\t4\t99.9%\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's way to close them")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "| true"])
def test_closed_outputs_do_not_lose_a_training(closed, small, tmp_path):
    training = ["--train", "--data", small, "--network", "mlp", "--epochs", "1", "--output", tmp_path]
    done = in_shell([*training, "--csv", SAMPLE], closed)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "small-history.csv",
        "small-metrics.json",
        "small.keras",
        "small.onnx",
    ], "no figures with --csv"
    assert "Traceback" not in done.stderr


def test_a_name_too_long_is_refused_in_a_sentence(capsys):
    name = "7" * 300
    for arguments in ([name], [str(SAMPLE), "--model", name], ["--train", "--data", name]):
        assert md.main(arguments) == 1
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="there is no device that is always full")
@pytest.mark.parametrize(
    "arguments", [[SAMPLE, "--json"], [SAMPLE, "--csv"], [SAMPLE, "--no-plot"], ["--model-info"]], ids=str
)
def test_a_full_disk_under_stdout_is_told(arguments):
    done = in_shell([*arguments, "--model", md.BUNDLED], "> /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: stdout: no space left; free some, and go on with --skip-read"


def assert_centred(digit):
    """Hold a digit to its promise: its centre of mass lies on pixel 14."""
    assert (digit.shape, digit.dtype) == ((28, 28), np.uint8)
    y, x = (np.average(np.arange(28), weights=digit.sum(axis=axis, dtype=float)) for axis in (1, 0))
    assert max(abs(x - 14), abs(y - 14)) <= 0.6


SIDES = st.integers(1, 90)
GRAYS = arrays(np.uint8, st.tuples(SIDES, SIDES))
FEW = arrays(np.uint8, st.tuples(SIDES, SIDES), fill=st.just(0), elements=st.sampled_from([0, 1, 130, 255]))
PICTURES = st.one_of(
    GRAYS,
    FEW,
    arrays(np.uint8, st.tuples(SIDES, SIDES, st.sampled_from([3, 4]))),
    arrays(np.uint16, st.tuples(SIDES, SIDES, st.sampled_from([3, 4]))),
    arrays(np.int32, st.tuples(SIDES, SIDES)),
    arrays(np.float32, st.tuples(SIDES, SIDES)),
    arrays(np.float64, st.tuples(SIDES, SIDES, st.just(3))),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(GRAYS, FEW), st.sampled_from([md.fit_digit, md.to_digit]))
def test_any_ink_becomes_a_centred_digit_or_is_refused(ink, make):
    if ink.any():
        assert_centred(make(ink))
    else:
        with pytest.raises(md.InputError):
            make(ink)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PICTURES, st.booleans())
def test_any_picture_has_centred_digits_or_is_refused(picture, one):
    """Whatever a file decodes to: NaN, infinite and negative numbers, one pixel, noise."""
    whole, content = cv2.imencode(".tiff", picture)
    assert whole
    reading = read_one(content.tobytes(), one=one)
    assert reading.page.size in {(1, 1), picture.shape[1::-1]}
    assert bool(reading.error) != bool(reading.boxes)
    for digit in reading.digits:
        assert_centred(digit)
