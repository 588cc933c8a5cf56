"""From files to digits: every way of storing the same digit ends in the same (28, 28) array."""

import io
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import read_one
from draw_samples import BLACK, STROKES, WHITE, pen, plain, shaded, write
from matplotlib.figure import Figure

import mnist_digits as md


def enlarged(digit, times=9):
    """Blow a digit up, to a picture with dark ink on a white page, off its middle."""
    ink = cv2.resize(digit, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)
    return cv2.copyMakeBorder(255 - ink, 30, 110, 75, 20, cv2.BORDER_CONSTANT, value=255)


def save(path, picture):
    _, content = cv2.imencode(path.suffix, picture)
    path.write_bytes(content.tobytes())
    return str(path)


def recolored(gray):
    """Turn black ink on white into dark blue ink on yellow paper."""
    share = (gray / 255)[..., None]
    return np.rint((1 - share) * (120, 40, 20) + share * (160, 230, 245)).astype(np.uint8)


def as_alpha(gray, color):
    return np.dstack([plain(*gray.shape, color), 255 - gray])


DISGUISES = {
    "as it is": lambda gray: gray,
    "white on black": lambda gray: 255 - gray,
    "blue on yellow": recolored,
    "16 bit": lambda gray: gray.astype(np.uint16) * 257,
    "faint": lambda gray: (gray // 4 + 150).astype(np.uint8),
    "black ink on nothing": lambda gray: as_alpha(gray, (0, 0, 0)),
    "white ink on nothing": lambda gray: as_alpha(gray, (255, 255, 255)),
    "red ink on nothing": lambda gray: as_alpha(gray, (0, 0, 255)),
    "opaque": lambda gray: np.dstack([gray, gray, gray, np.full_like(gray, 255)]),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_digit_comes_back_from_any_disguise(disguise, digits, tmp_path):
    differences = []
    for digit in digits[:40]:
        reading = read_one(save(tmp_path / "digit.png", DISGUISES[disguise](enlarged(digit))))
        assert len(reading.digits) == 1
        differences.append(np.abs(reading.digits[0].astype(int) - digit).mean())
    assert np.median(differences) < 4, "a shift by one pixel makes about 20"
    assert max(differences) < 20


def test_mnist_itself_comes_back_through_the_geometry(data, tmp_path):
    digits = data.x_test[::5]
    readings = [read_one(save(tmp_path / "digit.png", enlarged(digit))) for digit in digits]
    alone = [(found.digits[0], digit) for found, digit in zip(readings, digits, strict=True) if len(found.digits) == 1]
    differences = [np.abs(found.astype(int) - digit).mean() for found, digit in alone]
    assert len(alone) >= 196, "a few digits of MNIST are torn in two"
    assert np.median(differences) < 5


def test_the_centre_of_mass_falls_on_pixel_14(rng):
    for label in STROKES:
        ink = np.pad((255 * pen(label, 300, 25, rng)).astype(np.uint8), 60)
        (digit,) = read_one(255 - ink).digits
        moments = cv2.moments(digit)
        assert abs(moments["m10"] / moments["m00"] - 14) < 0.6
        assert abs(moments["m01"] / moments["m00"] - 14) < 0.6
        assert digit.max() == 255
        assert max(cv2.boundingRect(digit)[2:]) == 20


def test_an_error_is_drawn_as_it_is(tmp_path, capsys):
    plot = tmp_path / "plot.png"
    assert md.main([r"file:///nowhere/$\frac$.png", "--plot", str(plot)]) == 1
    assert "$" in capsys.readouterr().err
    assert plot.is_file()


@pytest.mark.parametrize("name", ["ünïcödé 数字.png", "two words.png", "quote'd $x$.png"])
def test_any_file_name_is_opened(name, tmp_path, rng):
    page = plain(100, 100)
    write(page, pen("3", 60, 6, rng), 20, 15, (0, 0, 0))
    assert read_one(save(tmp_path / name, page)).error is None


def test_boxes_are_in_the_pixels_of_the_picture_itself(tmp_path, rng):
    page = shaded(2000, 3000, rng)
    drawn = pen("4", 600, 40, rng)
    write(page, drawn, 1500, 700, (60, 30, 20))
    (box,) = read_one(save(tmp_path / "large.jpg", page)).boxes
    assert np.allclose(box, (1500, 700, *drawn.shape[::-1]), atol=45), "half a stroke's width for the grey rim"


def test_digits_are_found_in_reading_order(tmp_path, rng):
    page = plain(420, 600)
    for place, label in enumerate("123456"):
        write(page, pen(label, 120, 10, rng, slant=0.05), 40 + place % 3 * 180, 40 + place // 3 * 190, (0, 0, 0))
    assert read_one(save(tmp_path / "page.png", page)).text == "123\n456"


@pytest.mark.parametrize(
    ("labels", "x", "y", "heights"), [("86", (60, 60), (30, 154), (110, 110)), ("73", (60, 150), (80, 20), (130, 70))]
)
def test_a_pair_one_below_the_other_and_a_power_are_read(labels, x, y, heights, rng):
    page = plain(300, 280)
    for label, left, top, height in zip(labels, x, y, heights, strict=True):
        write(page, pen(label, height, 9, rng, slant=0), left, top, BLACK)
    assert read_one(page).characters == labels


COLORS = {"yellow on white": ((0, 230, 255), (255, 255, 255)), "red on green": ((40, 60, 230), (60, 140, 60))}


@pytest.mark.parametrize("colors", COLORS)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_ink_is_told_from_paper_by_its_colour_too(colors, suffix, tmp_path, rng):
    ink, paper = COLORS[colors]
    drawn = pen("2", 180, 14, rng)
    page, black = plain(260, 260, paper), plain(260, 260)
    write(page, drawn, 60, 40, ink)
    write(black, drawn, 60, 40, (0, 0, 0))
    found, expected = (read_one(save(tmp_path / f"page{suffix}", picture)) for picture in (page, black))
    assert found.error is None
    assert np.abs(found.digits[0].astype(int) - expected.digits[0]).mean() < 12


INKS = {"black, orange": ((30, 30, 30), (30, 140, 240)), "blue, ochre": ((190, 90, 0), (40, 170, 190))}


@pytest.mark.parametrize("inks", INKS)
def test_digits_of_two_colours_are_all_read(inks, rng):
    page = plain(260, 560)
    for place, label in enumerate("2168"):
        write(page, pen(label, 150, 14, rng, slant=0), 60 + 120 * place, 50, INKS[inks][place % 2])
    assert read_one(page[:, :, ::-1]).text == "2168"


def tile(label, rng, ink=WHITE, ground=BLACK):
    """Draw a digit on a square of 140 pixels, as MNIST's pictures are."""
    picture, drawn = plain(140, 140, ground), pen(label, 100, 10, rng, slant=0)
    write(picture, drawn, 70 - drawn.shape[1] // 2, 20, ink)
    return picture


@pytest.mark.parametrize(("page", "text"), [(WHITE, "53"), (WHITE, "2649"), ((70, 110, 60), "384")])
def test_digits_on_tiles_are_read_and_not_what_is_between_them(page, text, rng):
    picture = plain(220, 60 + 180 * len(text), page)
    for place, label in enumerate(text):
        colors = (WHITE, BLACK) if page == WHITE else (BLACK, WHITE)
        picture[50:190, 50 + 180 * place : 190 + 180 * place] = tile(label, rng, *colors)
    cv2.putText(picture, "Label", (90, 35), cv2.FONT_HERSHEY_SIMPLEX, 0.7, BLACK, 1, cv2.LINE_AA)
    assert read_one(picture).text.split() == [text]


def test_digits_on_cards_that_lie_askew_are_read(rng):
    picture = plain(300, 700, (60, 60, 60))
    for place, (label, degrees) in enumerate([("3", 38), ("8", -42), ("5", 33)]):
        card = cv2.boxPoints(((130 + 220 * place, 150), (130, 130), degrees)).astype(int)
        cv2.fillPoly(picture, [card], (230, 230, 230), cv2.LINE_AA)
        drawn = pen(label, 65, 8, rng, slant=0)
        write(picture, drawn, 130 + 220 * place - drawn.shape[1] // 2, 150 - drawn.shape[0] // 2, BLACK)
    assert read_one(picture).characters == "385"


def test_a_plot_of_digits_in_the_default_colours_of_matplotlib_is_read(digits, labels):
    right = 0
    for start in range(8):
        figure, file = Figure(figsize=(6, 2)), io.BytesIO()
        for axes, digit in zip(figure.subplots(1, 4), digits[start::16], strict=True):
            axes.imshow(digit)
        figure.savefig(file)
        right += read_one(file.getvalue()).characters == "".join(map(str, labels[start::16]))
    assert right >= 6


@pytest.mark.parametrize("text", ["53", "264"])
def test_bars_between_pictures_of_digits_are_no_1s(text, rng):
    bar = plain(140, 8, WHITE)
    parts = [part for label in text for part in (bar, tile(label, rng))][1:]
    assert read_one(np.hstack(parts)).text.split() == [text]


def test_a_straight_1_beside_smaller_digits_is_no_bar(rng):
    page = plain(260, 480)
    cv2.line(page, (180, 60), (180, 200), BLACK, 10)
    for label, x, height in (("3", 60, 140), ("7", 230, 70), ("5", 310, 70)):
        write(page, pen(label, height, 9, rng, slant=0), x, 60, BLACK)
    assert read_one(page).characters == "3175"


def test_numbers_side_by_side_at_different_heights_are_two_rows(rng):
    page = plain(320, 560)
    for place, label in enumerate("3852"):
        write(page, pen(label, 100, 9, rng, slant=0), 60 + 100 * place, 130 - 80 * (place > 1), BLACK)
    assert read_one(page).text == "52\n38"


@pytest.mark.parametrize("shape", [(1, 100_000), (60_000, 1), (7, 10_000), (2, 2), (1, 30)])
def test_strips_are_looked_at_without_harm(shape, tmp_path, rng):
    for picture in (np.zeros(shape, np.uint8), rng.integers(0, 256, shape, dtype=np.uint8)):
        reading = read_one(save(tmp_path / "strip.png", picture))
        assert reading.error or len(reading.digits)


def test_impossible_names_are_told():
    for name in ("", "a" * 300, "nul\0.png"):
        assert read_one(name).error


BAD_FILES = {
    "missing.png": (None, "no such file"),
    "empty.png": (b"", "the file is empty"),
    "text.png": (b"these are words, not pixels\n" * 20, "not a picture this program can read"),
    "blank.png": (cv2.imencode(".png", plain(60, 60))[1].tobytes(), "no digit found"),
    "dot.png": (cv2.imencode(".png", plain(1, 1))[1].tobytes(), "no digit found"),
    "clear.png": (cv2.imencode(".png", np.zeros((50, 50, 4), np.uint8))[1].tobytes(), "no digit found"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_told_in_one_sentence(name, tmp_path):
    content, sentence = BAD_FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    reading = read_one(tmp_path / name)
    assert reading.error.startswith(sentence)
    assert "\n" not in reading.error
    assert not len(reading.digits)


def test_a_truncated_jpeg_is_refused(tmp_path, rng):
    whole = cv2.imencode(".jpg", shaded(300, 400, rng))[1].tobytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert read_one(tmp_path / "half.jpg").error


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="this user may read every file")
def test_an_unreadable_file_is_told(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "permission" in read_one(path).error.lower()


def test_folders_are_walked_in_the_order_a_person_counts(tmp_path):
    for name in ("10.png", "2.png", "notes.txt", ".hidden.png", "sub/1.JPG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(reading.path, tmp_path) for reading in md.read_pictures(tmp_path)]
    assert found == ["2.png", "10.png", str(Path("sub/1.JPG"))]


def test_a_folder_without_pictures_is_told(tmp_path):
    assert read_one(tmp_path).error.startswith("no pictures in this folder")
