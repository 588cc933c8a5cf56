"""Each flag that trains or reads, and each kind of picture that Python hands over, through the front door."""

import csv
import io
import json
import os
import subprocess
import sys
import tomllib

import cv2
import numpy as np
import onnx
import pytest
from conftest import ROOT, read_one
from draw_samples import BLACK, pen, plain, write
from PIL import Image

import mnist_digits as md

SAMPLE = ROOT / "samples" / "4.png"
ROW = ROOT / "samples" / "2026-row.jpg"


def train(output, small, *flags):
    """Train for one epoch; return what metrics.json says."""
    command = ["--data", small, "--network", "mlp", "--epochs", "1", "--output", str(output), *flags]
    assert md.main([*command, "--train", str(SAMPLE)]) == 0
    return json.loads((output / "small-metrics.json").read_text())


def drawn(path, words, rng, gap=70):
    """Draw words in a row, parted by gaps, and save them."""
    page, x = plain(140, 70 * sum(map(len, words)) + gap * len(words) + 40), 30
    for word in words:
        for character in word:
            write(page, pen(character, 70, 6, rng), x, 35, BLACK)
            x += 60
        x += gap
    assert cv2.imwrite(str(path), page.astype(np.uint8))
    return str(path)


def test_teachers_teach_a_network_that_answers_as_they_do(small, tmp_path):
    metrics = train(tmp_path, small, "--teachers", "2", "--epochs", "30")
    assert metrics["settings"]["teachers"] == 2
    assert metrics["accuracy"] == pytest.approx(metrics["accuracy_of_teachers"], abs=0.1)
    assert metrics["parameters"] == 28 * 28 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10, "it is one network"


def test_training_flags_are_recorded_and_change_the_network(small, tmp_path):
    flags = [
        "--no-augment",
        "--validation-split",
        "0.25",
        "--learning-rate",
        "0.002",
        "--batch-size",
        "50",
        "--seed",
        "3",
    ]
    settings = train(tmp_path, small, *flags)["settings"]
    asked = {"augment": False, "validation_split": 0.25, "learning_rate": 0.002, "batch_size": 50, "seed": 3}
    assert {name: settings[name] for name in asked} == asked


def test_one_takes_all_ink_for_one_digit(tmp_path, rng, capsys):
    page = plain(120, 120)
    write(page, pen("5", 80, 7, rng), 35, 20, BLACK)
    page[44:50] = page[0, 0]  # a gap across the digit
    cv2.imwrite(str(tmp_path / "5.png"), page.astype(np.uint8))
    assert md.main([str(tmp_path / "5.png"), "--one", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["digits"]) == 1


def test_explain_draws_each_picture_says_how_many_digits_it_shows_and_clears_up(tmp_path, rng, capsys):
    many = drawn(tmp_path / "many.png", ["1234567", "89012345"], rng)
    explain = tmp_path / "explain"
    assert md.main([str(SAMPLE), many, "--explain", "--no-plot", "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in explain.iterdir()) == ["001-4.png", "002-many.png"]
    assert md.main([many, "--explain", "--no-plot", "--output", str(tmp_path)]) == 0
    assert [path.name for path in explain.iterdir()] == ["001-many.png"], "those of the run before are gone"
    reading = read_one(many)
    figure = md.plot_stages(reading, md.find_stages(reading))
    titles = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert any("the first 8 of 15 digits" in title for title in titles)


def test_gaps_between_words_are_kept(tmp_path, rng, capsys):
    path = drawn(tmp_path / "words.png", ["06", "123", "45"], rng)
    assert md.main([path, "--no-plot"]) == 0
    assert capsys.readouterr().out.split("\t")[1] == "06 123 45"


def test_csv_of_digits_has_a_row_for_each_with_its_box(capsys):
    assert md.main([str(ROW), "missing.png", "--csv", "--digits"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["digit"] for row in rows] == [*"2026", ""]
    assert all(0.5 < float(row["confidence"]) <= 1 and int(row["w"]) > 0 for row in rows[:4])
    assert "no such file" in rows[4]["error"]
    with pytest.raises(SystemExit):
        md.main([str(ROW), "--digits"])


def test_csv_has_confidences_to_compute_with(capsys):
    assert md.main([str(SAMPLE), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert 0.9 < float(row["confidence"]) <= 1


def test_an_output_that_was_cut_off_is_gone_on_with_in_place(tmp_path):
    output = tmp_path / "read.jsonl"
    command = [sys.executable, str(ROOT / "mnist_digits.py"), str(SAMPLE), "--json", "--skip-read", "read.jsonl"]
    output.write_text(json.dumps({"path": "other.png", "error": None}) + '\n{"path": "cut o')
    with output.open("a") as end:
        subprocess.run(command, stdout=end, cwd=tmp_path, check=True)
    *_, cut, last = output.read_text().splitlines()
    assert (cut, json.loads(last)["text"]) == ('{"path": "cut o', "4")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_are_json_for_strict_parsers(tmp_path, capsys):
    name = os.fsencode(tmp_path) + b"/\xff.png"
    with open(name, "wb") as file:
        file.write(SAMPLE.read_bytes())
    assert md.main([os.fsdecode(name), "--json"]) == 0
    record = capsys.readouterr().out
    json.loads(record)["path"].encode("utf-8")
    (tmp_path / "read.jsonl").write_text(record)
    assert md.main([os.fsdecode(name), "--json", "--skip-read", str(tmp_path / "read.jsonl")]) == 0
    assert capsys.readouterr().out == "", "it is known as read"


def test_folders_say_what_they_skip(tmp_path, capsys):
    for name in ("4.png", "notes.txt", "photo.heic", ".hidden"):
        (tmp_path / name).write_bytes(SAMPLE.read_bytes())
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "4.png").write_bytes(SAMPLE.read_bytes())
    assert md.main([str(tmp_path), "--no-plot"]) == 0
    out, err = capsys.readouterr()
    assert ": skipped 2, not picture files: notes.txt, photo.heic" in err
    assert ".hidden" not in err
    assert len(out.splitlines()) == 1, "hidden folders are not looked into"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "ZIP"),
        (b'<?xml version="1.0"?><svg', "SVG"),
        (b"<svg>", "SVG"),
        (b"text", "damaged"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(content, kind, tmp_path, capsys):
    (tmp_path / "file.png").write_bytes(content)
    assert md.main([str(tmp_path / "file.png"), "--no-plot"]) == 1
    assert kind in capsys.readouterr().err


@pytest.mark.parametrize(("low", "high", "dtype"), [(-1, 1, np.float32), (0, 1, np.float32), (-2000, 2000, np.int16)])
def test_signed_and_float_pictures_are_scaled_by_their_range(low, high, dtype, tmp_path):
    gray = cv2.imread(str(ROOT / "samples" / "7.png"), cv2.IMREAD_GRAYSCALE) / 255
    cv2.imwrite(str(tmp_path / "7.tiff"), (low + (high - low) * gray).astype(dtype))
    assert read_one(tmp_path / "7.tiff").text == "7"


def test_avif_in_a_folder_is_a_picture(tmp_path):
    written, content = cv2.imencode(".avif", cv2.imread(str(SAMPLE)))
    if not written:
        pytest.skip("this OpenCV writes no AVIF")
    (tmp_path / "4.avif").write_bytes(content)
    assert [reading.text for reading in md.read_pictures(tmp_path)] == ["4"]


def in_python():
    """Return pictures of a four as Python has them."""
    colour, gray = cv2.imread(str(SAMPLE)), cv2.imread(str(SAMPLE), cv2.IMREAD_GRAYSCALE)
    alpha = np.dstack([np.zeros((*gray.shape, 3), np.uint8), 255 - gray])
    content = SAMPLE.read_bytes()
    deep = gray.astype(np.uint16) * 257, gray.astype(np.float32) / 255
    images = [Image.fromarray(array) for array in (gray, alpha, *deep)]
    return [SAMPLE, str(SAMPLE), content, bytearray(content), gray, colour[:, :, ::-1], alpha, *images]


def test_read_pictures_takes_what_people_have():
    many = in_python()
    assert [reading.text for picture in many for reading in md.read_pictures(picture)] == ["4"] * len(many)
    assert [reading.text for reading in md.read_pictures(iter(many))] == ["4"] * len(many)
    assert len(list(md.read_pictures(ROOT / "samples"))) == 16


def test_a_photo_in_pil_is_turned_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    file = io.BytesIO()
    Image.open(ROOT / "samples" / "7.png").convert("RGB").transpose(Image.Transpose.ROTATE_90).save(
        file, "JPEG", exif=exif, quality=95
    )
    readings = md.read_pictures([Image.open(io.BytesIO(file.getvalue())), file.getvalue()])
    assert [reading.text for reading in readings] == ["7", "7"]


def test_a_damaged_image_of_pil_is_an_error_of_its_reading():
    content = (ROOT / "samples" / "5-pencil-on-shaded-paper.jpg").read_bytes()
    damaged, four = md.read_pictures([Image.open(io.BytesIO(content[: len(content) // 2])), SAMPLE])
    assert "damaged PIL image" in damaged.error
    assert four.text == "4"


@pytest.mark.parametrize("accuracy", ["99%", "nan", "1e5", ""])
def test_metadata_of_others_are_no_accuracy(accuracy, tmp_path, capsys):
    model = onnx.load(md.BUNDLED)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"accuracy": accuracy, "data": "theirs"})
    onnx.save(model, tmp_path / "theirs.onnx")
    assert md.main([str(SAMPLE), "--no-plot", "--model", str(tmp_path / "theirs.onnx")]) == 0
    assert capsys.readouterr().err == f"reading with {tmp_path / 'theirs.onnx'}; --model FILE chooses another\n"


@pytest.mark.parametrize("picture", [3, None, np.zeros((4, 4)), np.zeros((2, 3, 4, 5), np.uint8), b"", b"no picture"])
def test_what_cannot_be_read_in_python_is_an_error_of_its_reading(picture):
    reading, four = md.read_pictures([picture, SAMPLE])
    assert (reading.text, bool(reading.error), four.text) == ("", True, "4")


def test_a_reading_says_what_it_is_in_a_line():
    four, missing = md.read_pictures([SAMPLE, "missing.png"])
    assert repr(four) == f"Reading(path={str(SAMPLE)!r}, text='4', confidence=0.999)"
    assert repr(missing) == "Reading(path='missing.png', error='no such file; check the path')"


def test_the_requirements_are_the_same_in_all_files():
    def named(file):
        lines = (ROOT / file).read_text().splitlines()
        return {line.split("#")[0].strip() for line in lines if line[:1] not in {"#", "-", ""}}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) == named("requirements-read.txt")
    assert set(project["optional-dependencies"]["train"]) == named("requirements.txt")


@pytest.mark.parametrize("arguments", [["--epochs", "1"], ["--model", "own.keras", "7.png"]])
def test_without_tensorflow_training_and_keras_files_say_what_to_install(arguments, tmp_path):
    (tmp_path / "own.keras").write_bytes(b"PK")
    missing = dict.fromkeys(["tensorflow", "keras", "mlxtend", "sklearn", "filelock"])  # as with requirements-read.txt
    program = f"import sys, mnist_digits as md; sys.modules |= {missing}; sys.exit(md.main({arguments}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "need TensorFlow" in done.stderr
    assert "pip install -r requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr
