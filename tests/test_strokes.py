"""From gray to digits, stage by stage: each test draws the trouble that a stage is there for."""

import math
from itertools import pairwise

import cv2
import drawn
import nondigits
import numpy as np
import pytest
from conftest import read_one
from draw_samples import BLACK, BLUE, PENCIL, STROKES, WHITE, lined, pen, plain, shaded, write

import mnist_digits as md


def gray_of(page):
    return cv2.cvtColor(page, cv2.COLOR_BGR2GRAY)


def digits_on(page, one=False):
    """Return what is found on a page as digits, row after row."""
    rows = md.find_digits(gray_of(page), one).rows
    return [md.to_digit(mark.ink) for row in rows for mark in row]


def assert_alike(page, coverage):
    """Assert that a page shows one digit, that whose drawing is given."""
    found = digits_on(page)
    assert len(found) == 1
    clean = plain(coverage.shape[0] + 60, coverage.shape[1] + 60)
    write(clean, coverage, 30, 30, BLACK)
    (expected,) = digits_on(clean)
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]  # the middle may fall on the next pixel
    difference = min(np.abs(np.roll(found[0], shift, (0, 1)).astype(int) - expected).mean() for shift in shifts)
    assert difference < 12


@pytest.mark.parametrize("label", STROKES)
@pytest.mark.parametrize("dark", [False, True])
def test_polarity_is_told_under_any_light(label, dark, rng):
    page = shaded(300, 400, rng) if not dark else 255 - shaded(300, 400, rng)
    drawn = pen(label, 180, 9, rng)
    write(page, drawn, 120, 50, WHITE if dark else BLACK)
    ink = md.find_digits(gray_of(page)).ink[50 : 50 + drawn.shape[0], 120 : 120 + drawn.shape[1]]
    assert ink[drawn > 0.9].mean() > 2 * ink[drawn < 0.1].mean()


def test_polarity_is_told_where_ink_fills_half_of_the_picture():
    for label in "0235689":
        ink = cv2.resize((255 * pen(label, 160, 30, np.random.default_rng(2))).astype(np.uint8), (16, 16))
        assert np.corrcoef(md.find_digits(ink).ink.flat, ink.flat)[0, 1] > 0.5
        assert np.corrcoef(md.find_digits(255 - ink).ink.flat, ink.flat)[0, 1] > 0.5


def test_a_vignette_is_no_ink(rng):
    page = shaded(480, 640, rng, dark=0.7)
    drawn = pen("5", 220, 9, rng)
    write(page, drawn, 250, 120, PENCIL)
    assert_alike(page, drawn)


@pytest.mark.parametrize("side", [28, 60])
def test_a_small_picture_has_shades_too(side, rng):
    for label in STROKES:
        page = shaded(side, side, rng)
        write(page, pen(label, round(0.6 * side), 0.07 * side, rng), side // 4, side // 6, BLACK)
        assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [1], label


def test_the_edge_of_a_hard_shadow_is_no_ink(rng):
    page = plain(480, 640, (210, 220, 225))
    drawn = pen("2", 200, 12, rng)
    write(page, drawn, 240, 140, BLACK)
    cv2.fillPoly(page, [np.array([[330, 0], [640, 0], [640, 480], [420, 480]])], 0, lineType=cv2.LINE_AA)
    shadow = plain(480, 640, (210, 220, 225))
    write(shadow, drawn, 240, 140, BLACK)
    page = np.where(page.max(axis=2, keepdims=True) == 0, (0.5 * shadow).astype(np.uint8), shadow)
    assert_alike(page, drawn)


def test_a_thick_brush_is_not_hollowed(rng):
    page = plain(200, 200)
    drawn = pen("3", 150, 34, rng)
    write(page, drawn, 30, 8, BLACK)
    strokes = md.find_digits(gray_of(page)).strokes
    middle = cv2.erode((drawn > 0.9).astype(np.uint8), np.ones((15, 15)))
    assert strokes[8 : 8 + drawn.shape[0], 30 : 30 + drawn.shape[1]][middle > 0].min() > 150


def test_a_line_of_one_pixel_does_not_vanish(rng):
    page = np.full((900, 900), 255, np.uint8)
    points = np.array([[300, 200], [600, 200], [430, 720]])
    cv2.polylines(page, [points], False, 0, 1)
    (row,) = md.find_digits(page).rows
    digit = md.to_digit(row[0].ink)
    assert (digit > 100).sum() > 40, "strokes as thick as a thin pen's in MNIST"


def test_faint_ink_is_found_on_a_clean_page(rng):
    page = plain(300, 300, (200, 200, 200))
    drawn = pen("8", 200, 14, rng)
    write(page, drawn, 60, 40, (188, 188, 188))
    assert_alike(page, drawn)


@pytest.mark.parametrize("squared", [False, True])
def test_rules_are_erased_and_the_digit_on_them_is_not(squared, rng):
    page = lined(400, 500)
    for x in range(20, 500, 60) if squared else ():
        cv2.line(page, (x, 0), (x, 400), (225, 205, 180), 2)
    drawn = pen("4", 210, 8, rng)
    write(page, drawn, 150, 80, BLUE)
    assert_alike(page, drawn)


def test_a_frame_as_dark_as_the_ink_is_erased(rng):
    page = plain(400, 400)
    cv2.rectangle(page, (3, 3), (396, 396), BLACK, 3)
    drawn = pen("6", 220, 16, rng)
    write(page, drawn, 110, 80, BLACK)
    assert_alike(page, drawn)


@pytest.mark.parametrize("degrees", [0, 5])
@pytest.mark.parametrize("share", [0.6, 0.9])
@pytest.mark.parametrize("desk", [(40, 50, 60), (120, 130, 140), (255, 255, 255)])
def test_the_desk_around_a_sheet_is_no_ink(degrees, share, desk, rng):
    sheet = plain(600, 800, (225, 230, 235))
    for place, label in enumerate("305"):
        write(sheet, pen(label, 150, 12, rng, slant=0), 170 + 170 * place, 220, BLUE)
    turn = cv2.getRotationMatrix2D((400, 300), degrees, share)
    page = cv2.warpAffine(sheet, turn, (800, 600), borderValue=desk, flags=cv2.INTER_AREA)
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [3]


def test_the_boxes_of_digits_on_a_sheet_stand_on_the_whole_picture(rng):
    page = plain(1200, 1600, (40, 50, 60))
    page[300:900, 600:1400] = 230
    drawn = pen("5", 200, 16, rng, slant=0)
    write(page, drawn, 900, 500, BLACK)
    (box,) = read_one(page).boxes
    h, w = drawn.shape
    assert max(abs(box.x - 900), abs(box.y - 500), abs(box.right - 900 - w), abs(box.bottom - 500 - h)) < 20


def test_the_margin_line_of_a_sheet_is_no_digit_though_a_shadow_falls_on_it(rng):
    page = plain(600, 800, (40, 50, 60))
    page[100:500, 150:650] = 230
    page[100:500, 180:184] = 120
    write(page, pen("3", 120, 12, rng, slant=0), 330, 220, BLACK)
    y, x = np.mgrid[:600, :800]
    page[x + y > 800] = page[x + y > 800] * 0.6
    assert read_one(page).text == "3"


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("share", [0.08, 0.35, 0.6])
def test_a_sheet_may_run_off_the_picture(turns, share, rng):
    page = plain(700, 700, (225, 230, 235))
    for place, label in enumerate("305"):
        write(page, pen(label, 100, 10, rng, slant=0), 120 + 170 * place, 300, BLUE)
    room = round(700 * share)
    page = np.rot90(
        cv2.copyMakeBorder(np.rot90(page, turns), 0, 0, room, 0, cv2.BORDER_CONSTANT, value=(50, 60, 70)), -turns
    )
    page = np.ascontiguousarray(cv2.GaussianBlur(page, (0, 0), 2))
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [3]


@pytest.mark.parametrize("turns", range(4))
def test_a_corner_of_the_desk_is_no_digit(turns, rng):
    page = plain(400, 700, (225, 230, 235))
    for place, label in enumerate("305"):
        write(page, pen(label, 150, 12, rng, slant=0), 120 + 170 * place, 120, BLUE)
    turned = np.ascontiguousarray(np.rot90(page, turns))
    cv2.fillConvexPoly(turned, np.array([(0, 0), (150, 0), (0, 25)]), (50, 60, 70))
    page = np.ascontiguousarray(np.rot90(turned, -turns))
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [3]
    assert read_one(page).text == "305"


@pytest.mark.parametrize("width", [10, 18])
def test_a_1_that_touches_a_side_is_no_desk(width, rng):
    page = plain(180, 500)
    for label, x in (("2", 30), ("0", 130), ("5", 360)):
        write(page, pen(label, 110, 12, rng, slant=0), x, 20, BLACK)
    page[:140, 270 : 270 + width] = BLACK
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [4]


def test_what_is_written_on_both_sides_of_a_shadow_is_kept(rng):
    page = plain(300, 900, (225, 230, 235))
    for place, label in enumerate("305386"):
        write(page, pen(label, 120, 10, rng, slant=0), 50 + 140 * place, 90, BLUE)
    page[:, 470:] = page[:, 470:] * 0.5
    assert read_one(page).characters == "305386"


def test_the_grain_of_a_dark_desk_is_no_ink(rng):
    page = plain(300, 400, (150, 150, 150))
    page[:, :30] = 8
    drawn = pen("5", 150, 14, rng)
    write(page, drawn, 150, 60, PENCIL)
    noisy = np.clip(page + rng.normal(0, 3, (300, 400, 1)), 0, 255).astype(np.uint8)
    assert_alike(noisy, drawn)


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60])
def test_a_bold_light_digit_is_no_sheet_of_paper(width, rng):
    for label in STROKES:
        page = plain(210, 190, BLACK)
        write(page, pen(label, 140, width, rng), 10, 4, WHITE)
        stages = md.find_digits(gray_of(page))
        assert np.array_equal(stages.gray, gray_of(page)), label


@pytest.mark.parametrize("shade", [60, 250])
def test_a_strip_along_a_side_is_no_digit_though_it_is_all_that_is_found(shade):
    page = plain(300, 400, (150, 150, 150))
    page[:, :30] = shade
    assert md.find_digits(gray_of(page)).error == md.NOTHING_FOUND
    assert read_one(page).error == md.NOTHING_FOUND


def test_a_1_may_fill_its_picture(rng):
    page = plain(40, 200)
    page[:, 6:34] = 0
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [1]


def test_discs_in_a_row_are_the_holes_of_a_binder_and_zeros_are_not(rng):
    page = plain(700, 600)
    for y in range(40, 600, 110):
        cv2.circle(page, (40, y), 14, BLACK, -1, cv2.LINE_AA)
        write(page, pen("0", 60, 12, rng, slant=0), 300, y - 20, BLACK)
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [1] * 6


def test_the_frame_of_a_field_is_dropped(rng):
    page = plain(400, 400)
    cv2.rectangle(page, (70, 50), (330, 350), BLACK, 6)
    drawn = pen("5", 180, 12, rng, slant=0)
    write(page, drawn, 140, 110, BLACK)
    assert_alike(page, drawn)


@pytest.mark.parametrize("degrees", [-2, 0, 3])
@pytest.mark.parametrize("away", [1, 8, 25])  # pixels between the digits and the frame
def test_a_frame_that_nearly_touches_its_digits_is_erased(degrees, away, rng):
    page = plain(300, 500)
    for place, label in enumerate("2735"):
        write(page, pen(label, 120, 10, rng, slant=0), 110 + 80 * place, 80, BLACK)
    x, y, w, h = cv2.boundingRect((gray_of(page) < 128).astype(np.uint8))
    corners = (x - away - 4, y - away - 4), (x + w + away + 4, y + h + away + 4)
    cv2.rectangle(page, *corners, BLACK, 4)
    turn = cv2.getRotationMatrix2D((250, 150), degrees, 0.8)
    page = cv2.warpAffine(page, turn, (500, 300), borderValue=WHITE, flags=cv2.INTER_AREA)
    assert [reading.text for reading in md.read_pictures([page])] == ["2735"]


@pytest.mark.parametrize("degrees", [-1.5, 1])
def test_a_long_frame_may_be_turned_a_little(degrees, rng):
    page = plain(300, 1000)
    for place, label in enumerate("2735064198"):
        write(page, pen(label, 90, 9, rng, slant=0), 70 + 88 * place, 100, BLACK)
    x, y, w, h = cv2.boundingRect((gray_of(page) < 128).astype(np.uint8))
    cv2.rectangle(page, (x - 12, y - 12), (x + w + 12, y + h + 12), BLACK, 3)
    turn = cv2.getRotationMatrix2D((500, 150), degrees, 0.95)
    page = cv2.warpAffine(page, turn, (1000, 300), borderValue=WHITE, flags=cv2.INTER_AREA)
    assert read_one(page).text == "2735064198"


def test_the_lines_of_a_table_are_erased_where_digits_touch_them(rng):
    page, labels = plain(420, 600), [["3", "1", "6", "5"], ["2", "8", "0", "7"]]
    for x in range(40, 580, 130):
        cv2.line(page, (x, 40), (x, 360), BLACK, 3)
    for y in range(40, 380, 160):
        cv2.line(page, (40, y), (560, y), BLACK, 3)
    for row, line in enumerate(labels):
        for column, label in enumerate(line):
            write(page, pen(label, 125, 11, rng, slant=0), 70 + 130 * column, 58 + 160 * row, BLACK)
    assert next(md.read_pictures([page])).text.split() == ["3165", "2807"]


@pytest.mark.parametrize("filled", [0, 3])
def test_a_table_of_which_one_row_is_filled_is_read(filled, rng):
    page = plain(560, 420)
    for y in range(60, 501, 110):
        cv2.line(page, (60, y), (360, y), BLACK, 3)
    for x in (60, 360):
        cv2.line(page, (x, 60), (x, 500), BLACK, 3)
    for place, label in enumerate("274"):
        write(page, pen(label, 70, 8, rng, slant=0), 120 + 65 * place, 80 + 110 * filled, BLACK)
    assert read_one(page).text == "274"


@pytest.mark.parametrize("away", [-2, 4, 20])  # pixels between the digits and the line
def test_the_line_below_a_number_is_erased(away, rng):
    page = plain(320, 520)
    for place, label in enumerate("3865"):
        write(page, pen(label, 120, 10, rng, slant=0), 110 + 80 * place, 80, BLACK)
    x, y, w, h = cv2.boundingRect((gray_of(page) < 128).astype(np.uint8))
    cv2.line(page, (x - 20, y + h + away + 4), (x + w + 20, y + h + away), BLACK, 5)
    assert [reading.text for reading in md.read_pictures([page])] == ["3865"]


def number_on(page, text, rng, height=90, width=9):
    """Write a number on a page; return the corners of the box around its ink."""
    for place, label in enumerate(text):
        write(page, pen(label, height, width, rng, slant=0), 80 + 80 * place, 100, BLACK)
    x, y, w, h = cv2.boundingRect((gray_of(page) < 128).astype(np.uint8))
    return (x, y), (x + w, y + h)


@pytest.mark.parametrize("thickness", [2, 5])
@pytest.mark.parametrize("missing", ["top", "left", "right", "gap below", "dashes"])
def test_a_frame_that_is_not_closed_is_erased(missing, thickness, rng):
    page = plain(300, 700)
    (left, top), (right, bottom) = number_on(page, "273506", rng)
    left, top, right, bottom = left - 15, top - 12, right + 15, bottom + 12
    cv2.rectangle(page, (left, top), (right, bottom), BLACK, thickness)
    holes = {
        "top": [np.s_[: top + 4]],
        "left": [np.s_[top + 4 : bottom - 3, : left + 4]],
        "right": [np.s_[:, right - 3 :]],
        "gap below": [np.s_[bottom - 3 : bottom + 4, x : x + 60] for x in (150, 400)],
        "dashes": [
            *(np.s_[y - 4 : y + 5, x : x + 15] for y in (top, bottom) for x in range(left + 30, right, 40)),
            *(np.s_[y : y + 5, x - 4 : x + 5] for y in range(top + 5, bottom, 20) for x in (left, right)),
        ],
    }
    for hole in holes[missing]:
        page[hole] = 255
    assert read_one(page).text == "273506"


@pytest.mark.parametrize("text", ["161718", "110011"])
def test_a_1_in_an_open_frame_stays(text, rng):
    page = plain(300, 700)
    (left, top), (right, bottom) = number_on(page, text, rng, width=7)
    corners = [(left - 15, top - 12), (left - 15, bottom + 12), (right + 15, bottom + 12), (right + 15, top - 12)]
    cv2.polylines(page, [np.array(corners)], False, BLACK, 7)
    assert read_one(page).text == text


@pytest.mark.parametrize(("text", "lower"), [("8651", 3), ("1861", 3), ("1594", 0)])
def test_a_1_that_stands_on_the_end_of_a_line_stays(text, lower, rng):
    page, x = plain(300, 700), 80
    for place, label in enumerate(text):
        drawn = pen(label, 90, 8, rng, slant=0)
        write(page, drawn, x, 190 - drawn.shape[0] + lower * (label == "1"), BLACK)
        x += drawn.shape[1] + 18 * (place < len(text) - 1)
    cv2.line(page, (84, 194 + lower), (x - 4, 194 + lower), BLACK, 8)
    assert read_one(page).text == text


@pytest.mark.parametrize("away", [7, 13])  # pixels between the rows and the lines
def test_1s_between_level_lines_stay(away, rng):
    page, y = plain(700, 700), 60
    for text in ("1785", "1631", "1159"):
        cv2.line(page, (50, y), (650, y), BLACK, 5)
        for place, label in enumerate(text):
            write(page, pen(label, 90, 8, rng, slant=0), 80 + 80 * place, y + away, BLACK)
        y += 90 + 12 + 2 * away
    cv2.line(page, (50, y), (650, y), BLACK, 5)
    assert read_one(page).text.split() == ["1785", "1631", "1159"]


def test_a_1_between_the_detached_bars_of_5s_and_a_line_stays(rng):
    page = plain(300, 700)
    (left, _), (right, bottom) = number_on(page, "5155", rng, width=7)
    for place in (0, 2, 3):
        page[109:114, 80 + 80 * place : 140 + 80 * place] = 255
    cv2.line(page, (left - 20, bottom + 4), (right + 20, bottom + 4), BLACK, 5)
    assert read_one(page).text == "5155"


def test_lines_thinner_than_the_pen_between_the_cells_of_a_broken_frame_are_no_digits(rng):
    page = plain(300, 700)
    (left, top), (right, bottom) = number_on(page, "273506", rng, height=75)
    cv2.rectangle(page, (left - 12, top - 10), (right + 12, bottom + 10), BLACK, 3)
    for x in range(left + 66, right, 80):
        cv2.line(page, (x, top + 15), (x, bottom + 10), BLACK, 3)
    for x in (200, 420):
        page[top - 14 : top - 6, x : x + 50] = 255
    assert read_one(page).text == "273506"


@pytest.mark.parametrize("thickness", [4, 10])
def test_a_frame_with_nothing_in_it_may_be_a_square_0(thickness):
    page = plain(240, 200)
    cv2.rectangle(page, (60, 50), (140, 190), BLACK, thickness)
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [1]


@pytest.mark.parametrize("degrees", [0, 8])
@pytest.mark.parametrize("label", "125")
def test_a_frame_drawn_with_the_pen_of_its_digit_is_dropped(label, degrees, rng):
    page, clean = plain(400, 400), plain(400, 400)
    drawn = pen(label, 150, 14, rng, slant=0)
    h, w = drawn.shape
    for picture in (page, clean):
        write(picture, drawn, 200 - w // 2, 200 - h // 2, BLACK)
    cv2.rectangle(page, (175 - w // 2, 175 - h // 2), (225 + w // 2, 225 + h // 2), BLACK, 13)
    turn = cv2.getRotationMatrix2D((200, 200), degrees, 1)
    found, expected = (
        digits_on(cv2.warpAffine(picture, turn, (400, 400), borderValue=WHITE)) for picture in (page, clean)
    )
    assert len(found) == 1
    assert np.abs(found[0].astype(int) - expected[0]).mean() < 0.3 * expected[0].mean()


def test_a_line_that_rises_below_a_number_is_dropped(rng):
    page = plain(300, 700)
    for place, label in enumerate("73425"):
        write(page, pen(label, 110, 10, rng, slant=0), 80 + 110 * place, 80, BLACK)
    cv2.line(page, (60, 240), (650, 205), BLACK, 7)
    assert read_one(page).text == "73425"


@pytest.mark.parametrize("rise", [0, 15, 30, 60])
@pytest.mark.parametrize("below", [30, 170])
def test_the_bar_of_an_open_4_is_no_line_below_its_strokes(rise, below):
    page = plain(560, 480)
    strokes = np.array([(190, 60), (170, 200), (90, 305 + rise // 2), (410, 305 - rise // 2)])
    cv2.polylines(page, [strokes], False, BLACK, 18, cv2.LINE_AA)
    cv2.line(page, (280, 80), (272, 305 + below), BLACK, 16, cv2.LINE_AA)
    ((mark,),) = md.find_digits(gray_of(page)).rows
    assert mark.box.w > 300


def test_a_slanting_line_alone_stays():
    page = plain(300, 600)
    cv2.line(page, (60, 200), (530, 120), BLACK, 14, cv2.LINE_AA)
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [1]


def test_two_rows_of_two_that_are_out_of_line_are_not_read_across(rng):
    page = plain(420, 560)
    for label, x, y in (("2", 60, 60), ("3", 210, 60), ("8", 135, 190), ("7", 285, 190)):
        write(page, pen(label, 110, 10, rng, slant=0), x, y, BLACK)
    assert "".join(read_one(page).text.split()) == "2387"


def test_four_digits_that_rise_are_one_row(rng):
    page = plain(500, 620)
    for place, label in enumerate("2387"):
        write(page, pen(label, 110, 10, rng, slant=0), 60 + 130 * place, 250 - 28 * place, BLACK)
    assert read_one(page).text == "2387"


@pytest.mark.parametrize("label", STROKES)
def test_a_circle_around_a_digit_is_dropped(label, rng):
    page = plain(400, 400)
    drawn = pen(label, 150, 12, rng, slant=0)
    write(page, drawn, 200 - drawn.shape[1] // 2, 200 - drawn.shape[0] // 2, BLACK)
    cv2.ellipse(page, (200, 200), (150, 140), 10, 0, 360, BLACK, 5)
    assert_alike(page, drawn)


@pytest.mark.parametrize("label", ["2", "5", "7"])
def test_a_bold_ring_around_a_small_digit_is_dropped(label, rng):
    page = plain(400, 400)
    drawn = pen(label, 76, 10, rng, slant=0)
    write(page, drawn, 200 - drawn.shape[1] // 2, 200 - drawn.shape[0] // 2, BLACK)
    cv2.circle(page, (200, 200), 140, BLACK, 48)
    assert read_one(page).text == label


def test_a_0_with_a_stroke_in_it_is_no_circle_around_a_1():
    page = plain(300, 300)
    cv2.ellipse(page, (150, 150), (65, 100), 0, 0, 360, BLACK, 12)
    cv2.line(page, (135, 190), (165, 110), BLACK, 10)
    ((mark,),) = md.find_digits(gray_of(page)).rows
    assert mark.box.w > 120


def test_a_wide_0_with_specks_in_it_stays():
    page = plain(300, 300)
    cv2.ellipse(page, (150, 150), (95, 100), 0, 0, 360, BLACK, 12)
    page[110:114, 140:144] = page[190:194, 160:164] = 0
    ((mark,),) = md.find_digits(gray_of(page)).rows
    assert mark.box.w > 180


def test_a_digit_that_touches_a_circle_is_not_erased_with_it(rng):
    page = plain(300, 500)
    for place, label in enumerate("273"):
        write(page, pen(label, 110, 10, rng, slant=0), 150 + 70 * place, 95, BLACK)
    x, _, _, _ = cv2.boundingRect((gray_of(page) < 128).astype(np.uint8))
    cv2.ellipse(page, (x + 150, 150), (155, 110), 0, 0, 360, BLACK, 5)
    found = md.find_digits(gray_of(page)).rows
    assert min(mark.box.x for row in found for mark in row) < x + 10


def test_a_digit_that_touches_a_circle_is_read_whole(rng):
    page = plain(360, 700)
    for place, label in enumerate("2864"):
        write(page, pen(label, 110, 10, rng, slant=0), 170 + 90 * place, 125, BLACK)
    x, y, w, h = cv2.boundingRect((gray_of(page) < 128).astype(np.uint8))
    cv2.ellipse(page, (x + w // 2 - 12, y + h // 2), (w // 2 + 14, 130), 0, 0, 360, BLACK, 5)
    assert read_one(page).text == "2864"


@pytest.mark.parametrize("start", [20, 110, 200, 290])
@pytest.mark.parametrize("text", ["5", "27", "1864"])
def test_a_circle_that_does_not_close_is_dropped(text, start, rng):
    page = plain(400, 700)
    drawn = [pen(label, 110, 10, rng, slant=0) for label in text]
    for place, digit in enumerate(drawn):
        write(page, digit, 350 + round(90 * (place - len(text) / 2)), 200 - digit.shape[0] // 2, BLACK)
    cv2.ellipse(page, (350, 200), (100 + 50 * len(text), 130), 0, start, start + 320, BLACK, 6)
    assert read_one(page).text == text


@pytest.mark.parametrize("corners", [[(0, 0), (0, 1), (1, 1)], [(1, 0), (1, 1), (0, 1), (0, 0)]])
def test_what_is_left_of_a_frame_around_a_digit_is_dropped(corners, rng):
    page = plain(300, 300)
    drawn = pen("5", 130, 12, rng, slant=0)
    write(page, drawn, 150 - drawn.shape[1] // 2, 150 - drawn.shape[0] // 2, BLACK)
    cv2.polylines(page, [60 + 180 * np.array(corners)], False, BLACK, 3)
    assert_alike(page, drawn)


def test_a_0_of_two_pieces_is_no_frame_around_one_of_them():
    page = plain(300, 300)
    cv2.ellipse(page, (150, 150), (90, 100), 0, -60, 190, BLACK, 14)
    cv2.ellipse(page, (150, 150), (90, 100), 0, 205, 285, BLACK, 14)
    assert max(mark.box.w for row in md.find_digits(gray_of(page)).rows for mark in row) > 150


@pytest.mark.parametrize("label", ["2", "4", "7"])
def test_a_digit_that_touches_the_circle_around_it_is_read(label, rng):
    page = plain(400, 400)
    drawn = pen(label, 150, 12, rng, slant=0)
    x, y = 200 - drawn.shape[1] // 2, 200 - drawn.shape[0] // 2
    write(page, drawn, x, y, BLACK)
    cv2.circle(page, (200, 185), y + drawn.shape[0] - 185, BLACK, 6)
    assert read_one(page).text == label


@pytest.mark.parametrize("signs", [")", "()"])
def test_parentheses_are_no_1s(signs, rng):
    page = plain(300, 600)
    for place, label in enumerate("385"):
        write(page, pen(label, 110, 10, rng, slant=0), 180 + 90 * place, 95, BLACK)
    if "(" in signs:
        cv2.ellipse(page, (180, 150), (45, 100), 0, 120, 240, BLACK, 9)
    cv2.ellipse(page, (410, 150), (45, 100), 0, -60, 60, BLACK, 9)
    assert read_one(page).text == "385"


@pytest.mark.parametrize(("date", "has_slashes"), [("7/25/36", True), ("23/5/2637", True), ("2/635/47", False)])
def test_the_slashes_of_a_date_are_no_1s(date, has_slashes, rng):
    page = plain(300, 800)
    for place, label in enumerate(date):
        if label == "/":
            cv2.line(page, (60 + 75 * place, 220), (110 + 75 * place, 85), BLACK, 9)
        else:
            write(page, pen(label, 100, 10, rng, slant=0), 60 + 75 * place, 100, BLACK)
    digits = read_one(page).characters
    assert digits == date.replace("/", "" if has_slashes else "1")


@pytest.mark.parametrize(("height", "side"), [(62, 0), (62, 180), (90, 180)])
def test_a_bent_1_is_no_parenthesis(height, side, rng):
    page = plain(300, 500)
    for x, label in ((60, "3"), (150, "6"), (320, "8")):
        write(page, pen(label, 110, 10, rng, slant=0), x, 95, BLACK)
    cv2.ellipse(page, (265, 150), (40, height), side, -60, 60, BLACK, 10)
    assert sum(len(row) for row in md.find_digits(gray_of(page)).rows) == 4


def test_the_halves_of_a_0_are_no_parentheses(rng):
    page = plain(300, 500)
    for x, label in ((80, "4"), (330, "8")):
        write(page, pen(label, 110, 10, rng, slant=0), x, 95, BLACK)
    for side, x in ((0, 245), (180, 235)):
        cv2.ellipse(page, (x, 150), (35, 55), side, -75, 75, BLACK, 10)
    assert sum(len(row) for row in md.find_digits(gray_of(page)).rows) == 4


def test_with_one_digit_a_picture_all_ink_is_taken_for_it():
    page = plain(300, 300)
    for side, x in ((0, 160), (180, 140)):
        cv2.ellipse(page, (x, 150), (60, 100), side, -75, 75, BLACK, 12)
    ((mark,),) = md.find_digits(gray_of(page), one=True).rows
    assert mark.box.w > 120


def test_specks_and_jpeg_blocks_are_dropped(rng):
    page = plain(300, 300)
    drawn = pen("9", 180, 12, rng)
    write(page, drawn, 90, 50, BLACK)
    for x, y in rng.integers(5, 295, (25, 2)):
        page[y : y + 2, x : x + 2] = 90
    page = cv2.imdecode(cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, 15])[1], cv2.IMREAD_COLOR)
    assert_alike(page, drawn)


def test_a_number_below_a_long_bar_is_read_whole(rng):
    page = plain(500, 1000)
    page[40:75, 20:980] = 0
    for place, label in enumerate("5473"):
        write(page, pen(label, 60, 6, rng, slant=0), 300 + 70 * place, 250, BLACK)
    assert "5473" in read_one(page).text


@pytest.mark.parametrize("label", ["3", "5", "9"])
def test_a_light_digit_in_a_dark_window_with_buttons_around_it_is_read(label, rng):
    page = plain(371, 429, (235, 235, 235))
    page[46:344, 29:] = 0
    for x in range(10, 300, 45):
        cv2.rectangle(page, (x, 26), (x + 24, 41), (120, 120, 120), 1)
        cv2.circle(page, (x + 12, 33), 4, (90, 90, 200), cv2.FILLED)
    write(page, pen(label, 60, 8, rng), 195, 155, WHITE)
    assert read_one(page).text == label


def test_the_detached_bar_of_a_5_stays_with_it():
    page = np.full((200, 200), 255, np.uint8)
    cv2.line(page, (80, 40), (140, 36), 0, 9)
    cv2.line(page, (80, 62), (76, 100), 0, 9)
    cv2.ellipse(page, (90, 128), (38, 34), 0, -110, 140, 0, 9)
    assert [len(row) for row in md.find_digits(page).rows] == [1]


def test_an_8_of_two_circles_is_one_digit():
    page = np.full((200, 200), 255, np.uint8)
    cv2.ellipse(page, (100, 65), (38, 30), 0, 0, 360, 0, 5)
    cv2.ellipse(page, (100, 138), (42, 34), 0, 0, 360, 0, 5)
    assert [len(row) for row in md.find_digits(page).rows] == [1]


@pytest.mark.parametrize(("height", "rows"), [(0, [1]), (150, [2]), (75, [2, 1])])
def test_a_stroke_broken_across_is_one_digit_unless_that_is_taller_than_others(height, rows, rng):
    page = plain(400, 500)
    for start, end in (((80, 200), (120, 130)), ((131, 111), (168, 46))):
        cv2.line(page, start, end, BLACK, 12)
    if height:
        write(page, pen("8", height, 8, rng), 250, 40, BLACK)
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == rows


def test_a_sheet_of_fifty_is_read_row_by_row(rng):
    page = plain(600, 1100)
    for place in range(50):
        drawn = pen(str(place % 10), int(rng.integers(55, 75)), 6, rng)
        write(page, drawn, 30 + place % 10 * 105, 20 + place // 10 * 115 + int(rng.integers(0, 15)), BLACK)
    rows = md.find_digits(gray_of(page)).rows
    assert [len(row) for row in rows] == [10] * 5
    assert all(left.box.x < right.box.x for row in rows for left, right in pairwise(row))


@pytest.mark.parametrize("degrees", [-6, -3, 3, 6])
@pytest.mark.parametrize("lines", [1, 2])
def test_rows_may_slant(degrees, lines, rng):
    page = plain(700, 1000)
    for place in range(9 * lines):
        column, line = place % 9, place // 9
        x, y = 60 + 95 * column, 200 + 160 * line + (95 * column - 380) * np.tan(np.radians(degrees))
        write(page, pen(str(place % 10), 60, 6, rng), x, round(y), BLACK)
    rows = md.find_digits(gray_of(page)).rows
    assert [len(row) for row in rows] == [9] * lines


@pytest.mark.parametrize("size", [28, 64])
def test_a_bold_digit_may_fill_its_picture(size, rng):
    for label in "023568":
        drawn = pen(label, 400, 64, rng, slant=0)
        tight = 255 - cv2.resize((255 * drawn).astype(np.uint8), (size * drawn.shape[1] // drawn.shape[0], size))
        assert md.find_digits(tight, one=True).rows, label


def test_an_underline_is_no_digit(rng):
    page = plain(300, 600)
    for place, label in enumerate("483"):
        write(page, pen(label, 120, 9, rng, slant=0), 80 + 140 * place, 60, BLACK)
    cv2.line(page, (60, 220), (520, 214), BLACK, 7)
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [3]


@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("label", "179")
def test_lines_below_a_digit_alone_are_no_part_of_it(label, lines, rng):
    page = plain(400, 300)
    drawn = pen(label, 180, 14, rng, slant=0)
    write(page, drawn, 110, 60, BLACK)
    for y in (275, 300)[:lines]:
        cv2.line(page, (85, y), (135 + drawn.shape[1], y + 4), BLACK, 9)
    assert_alike(page, drawn)


def test_the_bar_of_a_7_below_a_1_is_no_underline_of_it(rng):
    page = plain(500, 300)
    write(page, pen("1", 160, 14, rng, slant=0), 140, 40, BLACK)
    cv2.line(page, (100, 250), (200, 248), BLACK, 12)
    cv2.line(page, (190, 276), (140, 420), BLACK, 12)
    assert read_one(page).text == "1\n7"


def test_a_1_at_the_foot_of_a_column_is_read_though_it_runs_off_the_page(rng):
    page = plain(600, 300)
    for place, label in enumerate("4831"):
        write(page, pen(label, 110, 12, rng, slant=0), 120, 40 + 150 * place, BLACK)
    assert read_one(page).text.split() == list("4831")


def test_a_1_near_the_edge_of_its_sheet_is_read(rng):
    page = plain(600, 900, (40, 50, 60))
    page[100:500, 150:750] = 230
    for place, label in zip((190, 320, 470), "153", strict=True):
        write(page, pen(label, 120, 12, rng, slant=0), place, 230, BLACK)
    assert read_one(page).text == "153"


def test_a_pen_that_lies_on_the_page_is_no_1(rng):
    page = plain(500, 700)
    for place, label in enumerate("4836"):
        write(page, pen(label, 120, 12, rng, slant=0), 80 + 110 * place, 150, BLACK)
    cv2.line(page, (560, 505), (620, 390), (60, 40, 40), 14)
    assert read_one(page).text == "4836"


@pytest.mark.parametrize("slant", range(0, 9, 2))  # degrees
@pytest.mark.parametrize("text", ["5", "513"])
def test_a_dashed_line_above_digits_is_dropped_and_they_stay_whole(text, slant, rng):
    page = plain(600, 1000)
    for place, label in enumerate(text):
        write(page, pen(label, 90, 9, rng, slant=0), 380 + 85 * place, 290, BLACK)
    alone = [mark.box for row in md.find_digits(gray_of(page)).rows for mark in row]
    for x in range(50, 930, 44):
        y = 270 + math.tan(math.radians(slant)) * (x - 500)
        cv2.line(page, (x, round(y)), (x + 28, round(y + 2)), BLACK, 3, cv2.LINE_AA)
    boxes = [mark.box for row in md.find_digits(gray_of(page)).rows for mark in row]
    assert np.abs(np.subtract(boxes, alone)).max() <= 2


def test_where_nothing_is_left_beside_dashes_no_digit_is_found():
    page = plain(600, 1000)
    for x in range(50, 930, 44):
        cv2.line(page, (x, 230), (x + 28, 232), BLACK, 3, cv2.LINE_AA)
    reading = read_one(page)
    assert not any(character.isdigit() for character in reading.text)


def test_digits_of_unequal_height_stand_in_one_row(rng):
    page, x = plain(300, 700), 40
    for label, height, y in zip("1305", (200, 110, 90, 180), (40, 90, 130, 60), strict=True):
        drawn = pen(label, height, 10, rng, slant=0)
        write(page, drawn, x, y, BLACK)
        x += drawn.shape[1] + 50
    assert [len(row) for row in md.find_digits(gray_of(page)).rows] == [4]


@pytest.mark.parametrize("label", ["5", "8", "9"])
def test_uneven_pencil_on_a_sheet_on_a_desk_is_read(label, rng):
    page = 60 * (1 + 0.25 * drawn.smooth_noise((600, 560), 6, rng))
    page[100:500, 100:460] = 190
    coverage = pen(label, 150, 11, rng, slant=0)
    h, w = coverage.shape
    pressure = np.clip(0.7 - 0.3 * drawn.smooth_noise((h, w), 25, rng), 0.1, 1)
    page[220 : 220 + h, 230 : 230 + w] -= 50 * pressure * coverage
    page = cv2.GaussianBlur(page + rng.normal(0, 3, page.shape), (0, 0), 1)
    assert [reading.text for reading in md.read_pictures([np.clip(page, 0, 255).astype(np.uint8)])] == [label]


@pytest.mark.parametrize(
    ("kind", "layout", "least"),
    [
        ("touching", "text", 0.35),
        ("old crop", "one", 0.85),
        ("shadow", "one", 0.95),
        ("form", "text", 0.85),
        ("thin pen", "one", 0.9),
        ("hollow", "one", 0.7),
        ("askew", "text", 0.8),
        ("clipped", "one", 0.85),
        ("boxed", "text", 0.8),
        ("broken box", "text", 0.5),
        ("framed", "one", 0.85),
        ("circled", "text", 0.8),
        ("underlined", "text", 0.85),
        ("photograph", "one", 0.85),
        ("notebook", "one", 0.85),
        ("note", "one", 0.85),
        ("glare", "one", 0.9),
        ("binder", "one", 0.85),
        ("coloured", "one", 0.85),
        ("cropped", "one", 0.85),
    ],
)
def test_drawn_pictures_are_read(kind, layout, least, data, tmp_path):
    made = drawn.make(kind, layout, 25, data.x_test, data.y_test, tmp_path)
    assert drawn.measure(made, md.load_network(md.BUNDLED), None) >= least


def test_two_digits_that_touch_are_read_though_one_is_a_1(data, rng):
    pairs = [rng.permutation([rng.choice(np.flatnonzero(data.y_test == 1)), other]) for other in range(0, 1000, 20)]
    pictures = [drawn.draw("touching", [list(data.x_test[pair])], rng) for pair in pairs]
    texts = ["".join(map(str, data.y_test[pair])) for pair in pairs]
    right = [reading.characters == text for reading, text in zip(md.read_pictures(pictures), texts, strict=True)]
    assert np.mean(right) >= 0.25


def test_a_digit_alone_is_not_read_in_parts(rng):
    for label in STROKES:
        single = plain(260, 260)
        write(single, pen(label, 160, 12, rng), 50, 40, BLACK)
        assert read_one(single).text == label


def test_one_takes_all_ink_for_one_digit(rng):
    page = plain(200, 300)
    write(page, pen("1", 120, 8, rng), 60, 40, BLACK)
    write(page, pen("1", 120, 8, rng), 160, 40, BLACK)
    assert len(digits_on(page)) == 2
    assert len(digits_on(page, one=True)) == 1


def test_the_bars_of_a_bar_code_are_no_1s(rng):
    page = plain(300, 700)
    write(page, pen("4", 120, 12, rng), 60, 90, BLACK)
    x = 300
    for width in rng.integers(4, 24, 14):
        page[60:240, x : x + width] = 0
        x += width + int(rng.integers(6, 20))
    assert read_one(page).text == "4"


@pytest.mark.parametrize("corners", [4, 6, 60])
@pytest.mark.parametrize("side", [28, 64, 200, 400])
def test_a_filled_shape_is_no_digit(corners, side):
    turns = np.arange(corners) * 2 * math.pi / corners + 0.2
    for radius in (0.3, 0.4, 0.48):
        outline = np.stack([np.cos(turns), np.sin(turns)], axis=1) * radius * side + side / 2
        gray = cv2.fillPoly(np.full((side, side), 255, np.uint8), [np.rint(outline).astype(int)], 0)
        assert set(read_one(gray).characters) <= {"?"}
        assert set(read_one(255 - gray).characters) <= {"?"}


def test_what_is_written_on_a_card_and_around_it_is_read(rng):
    page = plain(600, 800)
    card = cv2.boxPoints(((400, 300), (420, 300), 8)).astype(int)
    cv2.fillPoly(page, [card], (150, 150, 150))
    write(page, pen("4", 150, 12, rng), 350, 220, BLACK)
    write(page, pen("7", 150, 12, rng), 30, 220, BLACK)
    assert read_one(page).characters == "74"


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("letter", 0.85),
        ("word", 0.9),
        ("signature", 0.9),
        ("outlined shape", 0.9),
        ("filled shape", 0.95),
        ("ticked box", 0.9),
        ("house", 0.9),
        ("empty form", 0.75),
        ("bare paper", 0.9),
    ],
)
def test_drawn_pictures_without_a_digit_are_refused(kind, least):
    readings = md.read_pictures([nondigits.draw(kind, number) for number in range(40)])
    assert np.mean([set(reading.characters) <= {"?"} for reading in readings]) >= least


@pytest.mark.parametrize("kind", ["blank", "grain", "vignette", "texture"])
def test_where_there_is_no_digit_none_is_found(kind, rng):
    page = {
        "blank": lambda: plain(300, 400),
        "grain": lambda: np.clip(rng.normal(180, 12, (300, 400, 3)), 0, 255).astype(np.uint8),
        "vignette": lambda: shaded(300, 400, rng, dark=0.7),
        "texture": lambda: rng.integers(0, 2, (300, 400, 1), dtype=np.uint8).repeat(3, axis=2) * 255,
    }[kind]()
    stages = md.find_digits(gray_of(page))
    assert not stages.rows
    assert stages.error.startswith("no digit found")
