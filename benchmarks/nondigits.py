#!/usr/bin/env python3
"""Draw pictures on which there is no digit, of many kinds, and measure how many are refused.

    python benchmarks/nondigits.py                  100 pictures of each kind
    python benchmarks/nondigits.py --look FOLDER    save those on which something is read, named by what

Letters and shapes that people write as they write a digit are left out: O, I, S, Z, a circle, a single stroke. What is
measured is printed and, for all kinds, saved in benchmarks/results/nondigits.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import drawn
import numpy as np
from drawn import Rng

import mnist_digits as md

RESULTS = drawn.RESULTS.with_name("nondigits.json")
LETTERS = "ACEFGHKMNPRTVWXaefhkmnprtvwx"  # in print; of the others, each is written like a digit by somebody
FONTS = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIXGeneral", "cmr10")  # Matplotlib brings them along

Lines = list[np.ndarray]  # each (N, 2) float, x before y, of any unit


def circle(x: float, y: float, across: float, down: float, start: float = 0, end: float = 360) -> np.ndarray:
    """Return an ellipse, or its arc between two angles in degrees, as a line (60, 2)."""
    turns = np.radians(np.linspace(start, end, 60))
    return np.stack([x + across * np.cos(turns), y + down * np.sin(turns)], axis=1)


def star(points: int, inner: float) -> np.ndarray:
    """Return the outline of a star, or with `inner` 1 of a polygon with twice as many corners, as a closed line."""
    turns = np.arange(2 * points + 1) * math.pi / points
    return np.stack([np.sin(turns), -np.cos(turns)], axis=1) * np.where(np.arange(len(turns)) % 2, inner, 1)[:, None]


def trace(lines: Lines, rng: Rng, filled: bool = False) -> np.ndarray:
    """Draw lines as by hand, with a pen of any width, or filled: coverage (H, W), with paper around them."""
    corners = np.concatenate(lines)
    side, low = rng.uniform(60, 300), corners.min(axis=0)
    scale, turn = side / np.ptp(corners, axis=0).max(), math.radians(rng.normal(0, 5))
    hand = scale * np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), rng.uniform(0.8, 1.2)]])
    edge, phase = round(rng.uniform(0.3, 0.8) * side), rng.uniform(0, 6)
    page = np.zeros((round(1.4 * side) + 2 * edge,) * 2, np.float32)
    for line in lines:
        steps = np.linspace(0, len(line) - 1, 8 * len(line))
        smooth = np.stack([np.interp(steps, np.arange(len(line)), part) for part in line.T], axis=1)
        at = (smooth - low) @ hand + edge + 0.1 * side
        at += 0.015 * side * np.sin(6 / side * at[:, ::-1] + phase)
        if filled:
            cv2.fillPoly(page, [np.rint(at).astype(int)], 1, cv2.LINE_AA)
        cv2.polylines(page, [np.rint(at).astype(int)], False, 1, round(side * rng.uniform(0.02, 0.08)) + 1, cv2.LINE_AA)
    return page


def print_text(text: str, rng: Rng) -> np.ndarray:
    """Print a text in one of several fonts: coverage (H, W)."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    outlines = TextPath((0, 0), text, prop=FontProperties(family=rng.choice(FONTS)), size=rng.uniform(40, 200))
    polygons = [np.rint(16 * part * [1, -1]).astype(int) for part in outlines.to_polygons()]
    low, edge = np.concatenate(polygons).min(axis=0), int(rng.integers(20, 80))
    polygons = [part - low + 16 * edge for part in polygons]
    width, height = np.concatenate(polygons).max(axis=0) // 16 + edge
    return cv2.fillPoly(np.zeros((height, width), np.float32), polygons, 1, cv2.LINE_AA, shift=4)


def letter(rng: Rng) -> np.ndarray:
    """A printed letter."""
    return print_text(rng.choice(list(LETTERS)), rng)


def word(rng: Rng) -> np.ndarray:
    """A printed word, or one that nobody can pronounce."""
    return print_text("".join(rng.choice(list(LETTERS), rng.integers(3, 9))), rng)


def signature(rng: Rng) -> np.ndarray:
    """A line that goes up and down to the right, as a name written in haste."""
    steps = np.linspace(0, rng.uniform(4, 9), 150)
    waves = sum(rng.uniform(0.3, 1) * np.sin(rng.uniform(0.6, 1.6) * 6 * steps + rng.uniform(0, 6)) for _ in range(3))
    back = rng.uniform(0.1, 0.5) * np.sin(6 * steps + rng.uniform(0, 6))
    return trace([np.stack([steps + back, rng.uniform(0.2, 0.6) * waves], axis=1)], rng)


def scribble(rng: Rng) -> np.ndarray:
    """A line that goes to and fro."""
    corners = rng.random((int(rng.integers(8, 25)), 2))
    return trace([cv2.resize(corners, (2, 300), interpolation=cv2.INTER_CUBIC)], rng)


def shape(rng: Rng) -> np.ndarray:
    """The outline of something with corners: a closed line."""
    arrow = [(0, 3), (6, 3), (6, 1), (10, 5), (6, 9), (6, 7), (0, 7), (0, 3)]
    cross = [(3, 0), (6, 0), (6, 3), (9, 3), (9, 6), (6, 6), (6, 9), (3, 9), (3, 6), (0, 6), (0, 3), (3, 3), (3, 0)]
    house = [(0, 4), (5, 0), (10, 4), (9, 4), (9, 10), (1, 10), (1, 4), (0, 4)]
    flag = [(0, 0), (10, 0), (7, 3), (10, 6), (0, 6), (0, 0)]
    triangle, square = [(5, 0), (10, 9), (0, 9), (5, 0)], [(0, 0), (9, 0), (9, 9), (0, 9), (0, 0)]
    corners = (arrow, cross, house, flag, triangle, square)[rng.integers(6)]
    return np.array(corners, float) @ np.diag([1, rng.uniform(0.7, 1.1)])


def outlined_shape(rng: Rng) -> np.ndarray:
    """A triangle, a square, an arrow, a cross or the like, drawn as an outline."""
    return trace([shape(rng)], rng)


def filled_shape(rng: Rng) -> np.ndarray:
    """The same filled, or a disc."""
    return trace([shape(rng) if rng.random() < 0.8 else circle(0, 0, 1, 1)], rng, filled=True)


def outlined_star(rng: Rng) -> np.ndarray:
    """The outline of a star of five to eight points."""
    return trace([star(int(rng.integers(5, 9)), rng.uniform(0.35, 0.6))], rng)


def heart(rng: Rng) -> np.ndarray:
    """A heart."""
    turns = np.linspace(0, 2 * math.pi, 60)
    down = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return trace([np.stack([16 * np.sin(turns) ** 3, -down], axis=1)], rng)


def cloud(rng: Rng) -> np.ndarray:
    """A cloud of six to nine bulges."""
    bulges = np.linspace(0, 360, int(rng.integers(6, 10)), endpoint=False)
    parts = [
        circle(4 * math.cos(math.radians(at)), 2 * math.sin(math.radians(at)), 1.9, 1.6, at - 70, at + 70)
        for at in bulges
    ]
    return trace([np.concatenate([*parts, parts[0][:1]])], rng)


def arrow(rng: Rng) -> np.ndarray:
    """An arrow of three strokes, in any direction."""
    turn, head = rng.uniform(0, 2 * math.pi), rng.uniform(2, 4)
    way = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    strokes = [(0, 0), (10, 0)], [(10 - head, head), (10, 0), (10 - head, -head)]
    return trace([np.array(stroke, float) @ way for stroke in strokes], rng)


def tick_or_cross(rng: Rng) -> np.ndarray:
    """A tick, or a cross of two strokes."""
    tick = [[(0, 6), (rng.uniform(2, 4), 10), (10, rng.uniform(-2, 2))]]
    cross = [[(0, 0), (10, 10)], [(10, 0), (0, 10)]], [[(5, 0), (5, 10)], [(0, 5), (10, 5)]]
    return trace([np.array(stroke, float) for stroke in (tick, *cross)[rng.integers(3)]], rng)


def ticked_box(rng: Rng) -> np.ndarray:
    """A box, empty, ticked or crossed."""
    box, tick = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)], [(2, 5), (4.5, 8), (11, -1)]
    strokes = ([box], [box, tick], [box, [(2, 2), (8, 8)], [(8, 2), (2, 8)]])[rng.integers(3)]
    return trace([np.array(stroke, float) for stroke in strokes], rng)


def face(rng: Rng) -> np.ndarray:
    """A face: a circle, two eyes and a mouth."""
    eyes = [circle(x, -3, rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.2)) for x in (-3, 3)]
    mouth = circle(0, rng.uniform(1, 3), rng.uniform(2, 5), rng.uniform(1, 3), 20, 160)
    return trace([circle(0, 0, rng.uniform(8, 10), 10), *eyes, mouth], rng)


def clock(rng: Rng) -> np.ndarray:
    """A clock: a circle, two hands, in half twelve strokes for the hours."""
    hours = np.linspace(0, 2 * math.pi, 12, endpoint=False) if rng.random() < 0.5 else []
    marks = [np.outer([8, 9.3], [math.cos(turn), math.sin(turn)]) for turn in hours]
    turns = zip((5, 7.5), rng.uniform(0, 2 * math.pi, 2), strict=True)
    hands = [np.outer([0, length], [math.cos(turn), math.sin(turn)]) for length, turn in turns]
    return trace([circle(0, 0, 10, 10), *hands, *marks], rng)


def flower(rng: Rng) -> np.ndarray:
    """A flower: a small circle, petals around it, a stalk."""
    petals = np.linspace(0, 2 * math.pi, int(rng.integers(5, 8)), endpoint=False)
    around = [circle(4 * math.cos(turn), 4 * math.sin(turn), 2.2, 2.2) for turn in petals]
    return trace([circle(0, 0, 2, 2), *around, np.array([(0, 6), (1, 10), (0, 15)], float)], rng)


def house(rng: Rng) -> np.ndarray:
    """A house: walls, a roof, a door, in half a window."""
    x = rng.uniform(1, 6)
    strokes = [[(0, 4), (10, 4), (10, 10), (0, 10), (0, 4)], [(-0.5, 4), (5, 0), (10.5, 4)], [(x, 10), (x, 7)]]
    strokes += [[(x, 7), (x + 2, 7), (x + 2, 10)]]
    strokes += [[(7.5, 5.5), (9, 5.5), (9, 7), (7.5, 7), (7.5, 5.5)]] if rng.random() < 0.5 else []
    return trace([np.array(stroke, float) for stroke in strokes], rng)


def bar_code(rng: Rng) -> np.ndarray:
    """A bar code."""
    module, height = int(rng.integers(2, 7)), int(rng.integers(60, 200))
    widths = rng.integers(1, 5, 2 * int(rng.integers(15, 30)) + 1) * module
    bars = np.repeat(np.arange(len(widths)) % 2 == 0, widths).astype(np.float32)
    return np.pad(np.tile(bars, (height, 1)), int(rng.integers(15, 60)))


def hatching(rng: Rng) -> np.ndarray:
    """Parallel strokes, slanting or upright, as a drawing is shaded."""
    lean, count = rng.uniform(-1, 1), int(rng.integers(5, 15))
    ends = rng.normal(0, 0.3, (count, 2))
    strokes = [np.array([(x + 4 * lean, up), (x - 4 * lean, 8 + down)]) for x, (up, down) in enumerate(ends)]
    return trace(strokes, rng)


def empty_form(rng: Rng) -> np.ndarray:
    """Boxes with lines beside them, for somebody to fill in."""
    page, pen = np.zeros((500, 700), np.float32), int(rng.integers(1, 5))
    for y in range(60, 440, int(rng.integers(70, 140))):
        cv2.rectangle(page, (60, y), (100, y + 40), 1, pen)
        cv2.line(page, (130, y + 40), (int(rng.integers(400, 640)), y + 40), 1, pen)
    return page


def empty_table(rng: Rng) -> np.ndarray:
    """A table of empty cells."""
    (rows, columns), pen = rng.integers(2, 8, 2), int(rng.integers(1, 6))
    w, h = int(rng.integers(40, 120)), int(rng.integers(30, 80))
    page = np.zeros((h * rows + 80, w * columns + 80), np.float32)
    for row in range(rows + 1):
        cv2.line(page, (40, 40 + h * row), (40 + w * int(columns), 40 + h * row), 1, pen)
    for column in range(columns + 1):
        cv2.line(page, (40 + w * column, 40), (40 + w * column, 40 + h * int(rows)), 1, pen)
    return page


def bare_paper(rng: Rng) -> np.ndarray:
    """Nothing at all."""
    return np.zeros(rng.integers(100, 500, 2), np.float32)


def stain(rng: Rng) -> np.ndarray:
    """Stains of coffee or ink."""
    shape = tuple(rng.integers(150, 400, 2).tolist())
    blots = drawn.smooth_noise(shape, rng.uniform(20, 80), rng)
    return np.clip((blots - rng.uniform(0.8, 1.8)) * rng.uniform(1, 6), 0, 1) * rng.uniform(0.2, 1)


def texture(rng: Rng) -> np.ndarray:
    """Wood, gravel, cloth: grain of one size all over."""
    shape = tuple(rng.integers(100, 500, 2).tolist())
    if rng.random() < 0.5:
        return 1 - np.clip(drawn.wood(shape, rng) / 255, 0, 1)
    return np.clip(0.5 + rng.uniform(0.1, 0.4) * drawn.smooth_noise(shape, rng.uniform(2, 30), rng), 0, 1)


KINDS: dict[str, Callable[[Rng], np.ndarray]] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        *(letter, word, signature, scribble, outlined_shape, filled_shape, outlined_star, heart, cloud, arrow),
        *(tick_or_cross, ticked_box, face, clock, flower, house, bar_code, hatching, empty_form, empty_table),
        *(bare_paper, stain, texture),
    )
}
PAPERS = drawn.plain, drawn.plain, drawn.rough, drawn.ruled, drawn.shadow, drawn.blurred


def draw(kind: str, number: int) -> np.ndarray:
    """Draw one picture of a kind, (H, W) uint8: on white, rough or ruled paper, in a shadow or out of focus."""
    rng = np.random.default_rng([zlib.crc32(kind.encode()), number])
    page = KINDS[kind](rng)
    picture = PAPERS[rng.integers(len(PAPERS))](page, rng)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def table(found: dict) -> list[str]:
    """Return the lines of the README's table, one for each kind."""
    lines = [f"| drawn, without a digit | refused, of {found['pictures']} |", "|---|---|"]
    return lines + [f"| {kind} | {100 * share:.0f} % |" for kind, share in found["kinds"].items()]


def main() -> None:
    """Draw, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=md.BUNDLED, help="the network")
    parser.add_argument("--pictures", type=int, default=100, metavar="N", help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only these")
    parser.add_argument("--look", type=Path, metavar="FOLDER", help="where to save those on which something is read")
    args = parser.parse_args()
    if args.look:
        args.look.mkdir(parents=True, exist_ok=True)
    predict = md.load_network(args.model)
    found = {"date": datetime.date.today().isoformat(), "pictures": args.pictures, "kinds": {}}
    for kind in args.kinds:
        pictures = [draw(kind, number) for number in range(args.pictures)]
        read = ["".join(filter(str.isdigit, reading.text)) for reading in md.read_pictures(pictures, predict)]
        found["kinds"][kind] = read.count("") / len(read)
        for number, (picture, text) in enumerate(zip(pictures, read, strict=True)):
            if args.look and text:
                cv2.imwrite(str(args.look / f"{kind.replace(' ', '-')}-{number:03}-read-{text[:40]}.png"), picture)
        print(kind, found["kinds"][kind], file=sys.stderr, flush=True)
    print(*table(found), sep="\n")
    if list(found["kinds"]) == list(KINDS):
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
