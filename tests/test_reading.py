"""Where the network is in doubt, a picture is looked at again; a page of letters is no page of digits."""

import cv2
import draw_samples
import drawn
import numpy as np
import pytest
from conftest import read_one
from draw_samples import pen, plain, write

import mnist_digits as md


def read(path, page, one=False):
    cv2.imwrite(str(path), page)
    return read_one(path, one=one)


def row_of(page, text, x, y, shade, rng):
    for place, label in enumerate(text):
        write(page, pen(label, 110, 9, rng, slant=0), x + 130 * place, y, (shade, shade, shade))


@pytest.mark.parametrize("least", [0.3, 0.25, 0.2])
def test_strokes_that_fade_are_read_to_their_ends(least, rng, tmp_path):
    page = plain(200, 640).astype(np.float32)
    row_of(page, "2580", 60, 40, 10, rng)
    pressure = np.interp(np.arange(200), [50, 140], [1, least])[:, np.newaxis, np.newaxis]
    faded = np.clip(255 - (255 - page) * pressure, 0, 255).astype(np.uint8)
    assert read(tmp_path / "fading.png", faded).text == "2580"


@pytest.mark.parametrize(("faint", "place"), [(150, 0), (200, 2), (222, 4)])
def test_a_faint_digit_beside_bold_ones_is_not_lost(faint, place, rng, tmp_path):
    page = plain(200, 740, (245, 245, 245))
    for other, label in enumerate("36582"):
        row_of(page, label, 40 + 130 * other, 40, faint if other == place else 60, rng)
    assert read(tmp_path / "faint.png", page).characters == "36582"


def test_faint_pencil_on_a_sheet_on_a_wooden_desk_is_read(data, rng):
    right = 0
    for start in range(12):
        chosen = slice(start, 1000, 250)
        line = drawn.compose([drawn.write_line(list(data.x_test[chosen]), 100, 0.15, rng)], 0.7)
        pressure = np.clip(0.75 + 0.35 * drawn.smooth_noise(line.shape, max(line.shape) / 12, rng), 0.12, 1)
        height, width = line.shape
        page = drawn.wood((height + 80, width + 60), rng)  # the sheet runs off on the right
        page[40:-40, 60:] = drawn.ink_on(220 + 2 * rng.normal(0, 1, line.shape), line * pressure, 150)
        picture = np.clip(drawn.lit(page, rng), 0, 255).astype(np.uint8)
        right += read_one(picture).characters == "".join(map(str, data.y_test[chosen]))
    assert right >= 10


@pytest.mark.parametrize("grain", [6, 12, 18])
def test_rough_paper_hides_no_digit(grain, rng, tmp_path):
    page = plain(260, 240)
    write(page, pen("8", 180, 14, rng), 60, 40, draw_samples.BLUE)
    rough = cv2.GaussianBlur(rng.normal(0, 6 * grain, page.shape[:2]), (0, 0), 1.5)[..., None]
    assert read(tmp_path / "rough.png", np.clip(page - np.abs(rough), 0, 255).astype(np.uint8)).text == "8"


def test_light_that_falls_off_does_not_turn_ink_into_paper(rng, tmp_path):
    page = plain(600, 800).astype(np.float32)
    row_of(page, "91032", 60, 200, 60, rng)
    y, x = np.mgrid[:600, :800]
    light = 0.55 + 0.5 * np.exp(-(((x - 150) / 260) ** 2 + ((y - 560) / 120) ** 2))[..., None]
    assert read(tmp_path / "light.png", np.clip(page * light, 0, 255).astype(np.uint8)).text == "91032"


def test_small_soft_digits_without_margin_are_read(data, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(data.x_test))]
    for path, digit in zip(paths, data.x_test, strict=True):
        x, y, w, h = cv2.boundingRect(digit)
        cv2.imwrite(str(path), cv2.resize(digit[y : y + h, x : x + w], (16, 16), interpolation=cv2.INTER_AREA))
    texts = [reading.text for reading in md.read_pictures(paths, one=True)]
    assert np.mean(np.array(texts) == data.y_test.astype(str)) >= 0.95


def test_digits_of_8_pixels_are_found(data, rng, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(200)]
    for path, digit in zip(paths, data.x_test[::5], strict=True):
        x, y, w, h = cv2.boundingRect(digit)
        size = [max(round(8 * side / max(w, h)), 1) for side in (w, h)]
        tiny = cv2.resize(digit[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)
        picture = (220 - 0.5 * tiny + rng.normal(0, 8, tiny.shape)).clip(0, 255)
        cv2.imwrite(str(path), picture.astype(np.uint8))
    texts = [reading.text for reading in md.read_pictures(paths)]
    assert np.mean(np.array(texts) == data.y_test[::5].astype(str)) >= 0.92


@pytest.mark.parametrize("edge", [300, 350])
def test_a_thin_pen_in_a_hard_shadow_is_read(edge, data, tmp_path):
    y, x = np.mgrid[:450, :320]
    light = np.where(y > edge + 0.3 * x, 1, 0.6) * (1 - np.hypot((x - 160) / 320, (y - 225) / 450) ** 2)
    right = []
    for digit, label in zip(data.x_test[::50], data.y_test[::50], strict=True):
        page = np.full((450, 320), 200, np.float32)
        thin = cv2.erode(cv2.resize(digit, (120, 120), interpolation=cv2.INTER_CUBIC), np.ones((5, 5)))
        page[150:270, 100:220] *= 1 - thin / 300
        right.append(read(tmp_path / "shadow.png", (page * light).astype(np.uint8)).text == str(label))
    assert np.mean(right) >= 0.9


def test_a_1_is_found_in_the_noise_of_a_dark_photo(rng, tmp_path):
    page = plain(400, 260)
    write(page, pen("1", 200, 24, rng, slant=0), 110, 100, (60, 60, 60))
    noisy = np.clip(page * 0.8 + rng.normal(0, 28, (400, 260, 1)), 0, 255).astype(np.uint8)
    assert read(tmp_path / "noise.png", noisy).text == "1"


@pytest.mark.parametrize("side", [50, 140, 400])
def test_a_bold_and_soft_digit_that_fills_its_picture_is_read(side, data, tmp_path):
    texts = []
    for digit in data.x_test[::10]:
        x, y, w, h = cv2.boundingRect(digit)
        large = cv2.resize(digit[y : y + h, x : x + w], None, fx=side / max(w, h), fy=side / max(w, h))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, [int(0.06 * side) | 1] * 2)
        bold = cv2.dilate(np.pad(large, side // 16), disc)
        page = 170 - 0.35 * cv2.GaussianBlur(bold.astype(np.float32), (0, 0), 0.04 * side)
        texts.append(read(tmp_path / "bold.png", page.astype(np.uint8)).text)
    assert np.mean(np.array(texts) == data.y_test[::10].astype(str)) >= 0.9


@pytest.mark.parametrize("side", [120, 300])
def test_a_digit_cut_out_along_its_ink_is_read(side, data):
    pages = []
    for digit in data.x_test[::10]:
        x, y, w, h = cv2.boundingRect((digit > 64).astype(np.uint8))
        scale = side / max(w, h)
        pages.append(cv2.resize(digit[y : y + h, x : x + w], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))
    texts = [reading.text for reading in md.read_pictures(pages)]
    assert np.mean(np.array(texts) == data.y_test[::10].astype(str)) >= 0.95


def test_a_narrow_shadow_hides_no_digit(data, tmp_path):
    texts = []
    for number in range(0, 200, 10):
        digits = data.x_test[number:1000:250]  # four of different labels
        page = 230 - 0.8 * cv2.resize(np.hstack(digits), None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
        page = np.pad(page, 40, constant_values=230)
        page[100:, 300:380] *= 0.5  # over the second or third
        page = cv2.GaussianBlur(page.clip(0, 255), (0, 0), 1.5).astype(np.uint8)
        text = "".join(map(str, data.y_test[number:1000:250]))
        texts.append(read(tmp_path / "shadow.png", page).characters == text)
    assert np.mean(texts) >= 0.8


@pytest.mark.parametrize("text", ["1735", "3571"])
def test_a_1_at_the_edge_of_a_picture_is_read_in_its_row(text, data, tmp_path):
    cells = np.zeros((28, 0), np.uint8)
    for label in text:
        digit = data.x_test[data.y_test == int(label)][3]
        x, _, w, _ = cv2.boundingRect(digit)
        cells = np.hstack([cells, digit[:, x : x + w], np.zeros((28, 26), np.uint8)])
    page = 255 - cv2.resize(cells[4:24, :-26], None, fx=4, fy=4)
    assert read(tmp_path / "tight.png", page).characters == text


def test_an_edge_of_the_paper_is_no_1_of_a_sheet(rng, tmp_path):
    page = plain(600, 800)
    for y in (60, 240, 420):
        row_of(page, "3574", 130, y, 60, rng)
    cv2.fillPoly(page, [np.array([[0, 90], [25, 260], [12, 430], [0, 430]])], (20, 20, 20))
    assert read(tmp_path / "edge.png", page).characters == 3 * "3574"


@pytest.mark.parametrize(
    ("rings", "digit", "text"), [(1, 6, "????"), (2, 6, "66??"), (2, 0, "????"), (4, 6, "6666"), (4, 0, "0000")]
)
def test_most_of_a_page_that_is_no_digit_speaks_against_the_rest(rings, digit, text):
    page = np.full((140, 540), 255, np.uint8)
    for place in range(4):
        x = 70 + 130 * place
        if place < rings:
            cv2.circle(page, (x, 70), 40, 0, 12)
        else:
            cv2.rectangle(page, (x - 40, 30), (x + 40, 110), 0, -1)

    def predict(batch):
        is_ring = batch[:, 14, 14] < 0.5
        return np.where(is_ring, np.eye(10)[digit], 0.1).astype(np.float32)

    reading = read_one(page, predict=predict)
    assert reading.characters == text
    assert np.allclose(reading.probs.sum(axis=1), 1)


def test_an_edge_of_the_paper_does_not_hide_the_digits(rng, tmp_path):
    page = plain(500, 640)
    row_of(page, "4073", 60, 200, 120, rng)
    page[:, 632:] = 15
    assert read(tmp_path / "edge.png", page).text == "4073"


def test_a_second_look_does_not_lose_what_was_certain(rng, tmp_path):
    page = plain(200, 640)
    row_of(page, "35", 60, 40, 20, rng)
    cv2.circle(page, (500, 100), 50, (20, 20, 20), -1)
    assert read(tmp_path / "blob.png", page).text.startswith("35")


def form(text, keep, rng):
    """Draw a row of digits in a printed box of which only pieces are left; of each, `keep` is how likely it is."""
    page = plain(100, 60 * len(text) + 60)
    right = page.shape[1] - 20
    for start, end in (((20, 8), (right, 8)), ((20, 90), (right, 90)), ((20, 8), (20, 90)), ((right, 8), (right, 90))):
        place, axis = min(start), int(start[0] == end[0])
        for place in np.cumsum(rng.integers(8, 60, 60)):
            piece = min(int(place), end[axis]), min(int(place + rng.integers(4, 50)), end[axis])
            if rng.random() < keep and piece[0] < piece[1]:
                ends = [(at, start[1]) if axis == 0 else (start[0], at) for at in piece]
                cv2.line(page, *ends, (60, 60, 60), 2)
    for place, label in enumerate(text):
        write(page, pen(label, 58, 5, rng), 42 + 60 * place, 20, draw_samples.BLUE)
    return page


def test_level_pieces_of_printed_boxes_above_and_below_are_not_read(data, tmp_path):
    made = drawn.make("dropout", "text", 40, data.x_test, data.y_test, tmp_path)
    assert drawn.measure(made, md.load_network(md.BUNDLED), None) >= 0.85


@pytest.mark.parametrize("keep", [0.3, 0.6, 1])
def test_what_is_left_of_a_printed_box_is_not_read(keep, rng, tmp_path):
    right = 0
    for number in range(20):
        text = "".join(map(str, rng.integers(0, 10, rng.integers(4, 9))))
        right += read(tmp_path / f"{number}.png", form(text, keep, rng)).text == text
    assert right >= 17


def test_the_bars_of_fives_in_a_row_are_no_printed_line():
    page = np.full((200, 640), 255, np.uint8)
    for x in range(0, 600, 150):
        cv2.line(page, (x + 80, 40), (x + 140, 40), 0, 9)
        cv2.line(page, (x + 80, 62), (x + 76, 100), 0, 9)
        cv2.ellipse(page, (x + 90, 128), (38, 34), 0, -110, 140, 0, 9)
    ((*marks,),) = md.find_digits(page).rows
    assert [mark.box.y < 45 for mark in marks] == [True] * 4


def count_answers(picture):
    """Count what the network is asked of a picture on which there is no digit; an answer takes it 0.1 ms."""
    network, asked = md.load_network(md.BUNDLED), []

    def predict(batch):
        asked.append(len(batch))
        return network(batch)

    assert set(read_one(picture, predict=predict).characters) <= {"?"}
    return sum(asked)


def test_a_page_of_wide_scribbles_is_not_cut_into_ever_more_pieces():
    page, along = np.full((1200, 1200), 255, np.uint8), np.arange(220)
    for row, column in np.ndindex(12, 4):
        wave = np.stack([40 + 290 * column + along, 60 + 95 * row + 25 * np.sin(along / (8 + row))], axis=1)
        cv2.polylines(page, [np.rint(wave).astype(int)], False, 0, 5, cv2.LINE_AA)
    assert count_answers(page) < 10_000


def test_a_low_mark_is_cut_no_finer_than_its_pixels():
    page = np.full((32, 32), 255, np.uint8)
    page[14:17, 2:30] = 0
    page[14, 4::5] = 255
    assert count_answers(page) < 1000


def test_a_large_photo_is_read_at_half_its_size_and_its_boxes_are_those_of_the_whole(rng, tmp_path):
    page = draw_samples.shaded(1500, 2001, rng).astype(np.float32)
    row_of(page, "907", 1200, 900, 40, rng)
    page = np.clip(page + rng.normal(0, 12, page.shape), 0, 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), page, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert (tmp_path / "photo.jpg").stat().st_size > 10**6
    photo = read_one(tmp_path / "photo.jpg")
    whole = read(tmp_path / "whole.png", page)
    assert photo.text == whole.text == "907"
    assert np.abs(np.subtract(photo.boxes, whole.boxes)).max() < 8
    assert np.abs(np.subtract(photo.page.size, (2001, 1500))).max() < 2
