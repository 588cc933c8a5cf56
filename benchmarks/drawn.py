#!/usr/bin/env python3
"""Draw digits of MNIST on pictures of many kinds, alone and in lines, and measure how many are read right.

    python benchmarks/drawn.py                     MNIST's test digits, 200 alone and 100 texts of each kind
    python benchmarks/drawn.py --validation        digits held out of training, to choose by
    python benchmarks/drawn.py --look FOLDER       save the misread pictures, named by what they show and what was read

No rule of the reader should be fitted to single files: each kind is one cause of misreading, drawn in hundreds. What is
measured is printed and, for the test digits on all kinds, saved in benchmarks/results/drawn.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mnist_digits as md  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "drawn.json"

Rng = np.random.Generator


def stroke(digit: np.ndarray, height: int) -> np.ndarray:
    """Return a digit (28, 28) uint8 as a pen would draw it `height` pixels tall: coverage (H, W), 0 .. 1."""
    x, y, w, h = cv2.boundingRect((digit > 60).astype(np.uint8))
    x, y, right, bottom = max(x - 1, 0), max(y - 1, 0), min(x + w + 1, 28), min(y + h + 1, 28)
    scale = height / h
    size = max(round((right - x) * scale), 2), max(round((bottom - y) * scale), 2)
    large = cv2.resize(digit[y:bottom, x:right], size, interpolation=cv2.INTER_CUBIC) / 255.0
    sharp = np.clip((large - 0.45) * max(scale / 2, 1) + 0.5, 0, 1)
    return np.where(large < 0.1, 0, sharp).astype(np.float32)


def write_line(digits: list[np.ndarray], height: int, gap: float, rng: Rng) -> np.ndarray:
    """Write digits in a line: coverage (H, W). Gaps in heights; negative, so that digits touch."""
    drawn = [stroke(digit, round(height * rng.uniform(0.88, 1.12))) for digit in digits]
    line = np.zeros((round(1.5 * height), sum(part.shape[1] for part in drawn) + 2 * height * len(drawn)), np.float32)
    x = end = 0
    for part in drawn:
        h, w = part.shape
        y = round(0.75 * height - h / 2 + rng.normal(0, 0.04) * height)
        y = min(max(y, 0), len(line) - h)  # the tallest would stand out of the line
        if end:
            x = round(end + height * (gap + rng.uniform(-0.05, 0.15) * (gap > 0)))
            if gap < 0:  # as near as it takes to touch
                ink = np.argwhere(part > 0.5)
                while x > 0 and not (line[y : y + h, x : x + w][tuple(ink.T)] > 0.5).any():
                    x -= 1
        np.maximum(line[y : y + h, x : x + w], part, out=line[y : y + h, x : x + w])
        end = x + w
    return line[:, :end]


def rotate(page: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate coverage (H, W) counterclockwise by so many degrees, on a page that has room for it."""
    h, w = page.shape
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1)
    cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
    size = round(w * cos + h * sin), round(h * cos + w * sin)
    turn[:, 2] += (size[0] - w) / 2, (size[1] - h) / 2
    return cv2.warpAffine(page, turn, size)


def compose(lines: list[np.ndarray], margin: float, slope: float = 0) -> np.ndarray:
    """Put lines below one another with paper around, turned by so many degrees: coverage (H, W)."""
    height = lines[0].shape[0]
    width, edge = max(line.shape[1] for line in lines), round(margin * height)
    page = np.zeros((sum(len(line) for line in lines) + 2 * edge, width + 2 * edge), np.float32)
    y = edge
    for line in lines:
        page[y : y + len(line), edge : edge + line.shape[1]] = line
        y += len(line)
    return rotate(page, slope) if slope else page


def smooth_noise(shape: tuple[int, int], size: float, rng: Rng) -> np.ndarray:
    """Return noise (H, W) of standard deviation 1 whose blots are about `size` pixels."""
    small = rng.normal(0, 1, (max(round(shape[0] / size), 2), max(round(shape[1] / size), 2))).astype(np.float32)
    noise = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise / max(float(noise.std()), 1e-6)


def slant(shape: tuple[int, int], rng: Rng) -> np.ndarray:
    """Return how far each pixel of a picture (H, W) lies from its middle in some direction, in shares of its sides."""
    h, w = shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    return (x / w - 0.5) * np.cos(angle) + (y / h - 0.5) * np.sin(angle)


def ink_on(paper: np.ndarray | float, page: np.ndarray, pen: float = 40) -> np.ndarray:
    """Put ink of shade `pen` on paper of some shade: (H, W) float32, 0 .. 255."""
    return paper * (1 - page) + pen * page


def find_rows(page: np.ndarray) -> np.ndarray:
    """Return the upper and the lower end of each row of writing on a page, (N, 2)."""
    return np.flatnonzero(np.diff((page > 0.5).any(axis=1), prepend=False, append=False)).reshape(-1, 2)


def find_pieces(page: np.ndarray, reach: int) -> list[md.Box]:
    """Return the boxes of the digits on a page, of pieces that are so near in pixels as one."""
    return md.find_boxes(cv2.dilate((page > 0.3).astype(np.uint8), md.disc(reach)))


def scan(picture: np.ndarray, rng: Rng) -> np.ndarray:
    """Blur a picture, (H, W) or (H, W, 3), a little and add some noise, as a scanner does."""
    return cv2.GaussianBlur(picture, (0, 0), 1) + rng.normal(0, 2, picture.shape)


def plain(page: np.ndarray, rng: Rng) -> np.ndarray:
    """White paper, black pen."""
    return ink_on(255, page, 0)


def rough(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Rough paper: grain, coarse and fine, and a pen that skips."""
    side = max(page.shape)
    paper = 190 + 9 * smooth_noise(page.shape, side / 60, rng) + 7 * rng.normal(0, 1, page.shape)
    return ink_on(paper, page * np.clip(0.9 + 0.15 * smooth_noise(page.shape, side / 40, rng), 0, 1), 60)


def faint(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A pencil whose strokes are faint and broken in places."""
    pressure = np.clip(0.75 + 0.35 * smooth_noise(page.shape, max(page.shape) / 12, rng), 0.12, 1)
    return ink_on(235 + 2 * rng.normal(0, 1, page.shape), page * pressure, 120)


def old_crop(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A crop of an old document, the digits about 30 pixels tall: mid-grey paper, uneven pressure, a blur."""
    small = cv2.resize(page, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    pressure = np.clip(0.7 + 0.3 * smooth_noise(small.shape, 12, rng), 0.25, 1)
    paper = 165 + 5 * smooth_noise(small.shape, 9, rng)
    return cv2.GaussianBlur(ink_on(paper, small * pressure, 70), (0, 0), 0.7) + rng.normal(0, 3, small.shape)


def shadow(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A photograph with a vignette and the hard edge of a shadow."""
    h, w = page.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    light = 1 - 0.45 * np.hypot((x - w / 2) / w, (y - h / 2) / h) ** 2 * 2
    angle = rng.uniform(0, 2 * np.pi)
    across = (x - w * rng.uniform(0.3, 0.7)) * np.cos(angle) + (y - h * rng.uniform(0.3, 0.7)) * np.sin(angle)
    light *= np.where(across > 0, 1, 0.55)
    return cv2.GaussianBlur(ink_on(225, page, 45) * light, (0, 0), 1) + rng.normal(0, 3, page.shape)


def thin_pen(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A thin grey pen, most of the page in the hard shadow of whoever takes the photograph."""
    width = md.stroke_width((page > 0.5).astype(np.uint8))
    thin = cv2.erode(page, md.disc(0.4 * width))
    light = np.where(slant(page.shape, rng) > rng.uniform(0.15, 0.35), 1, rng.uniform(0.45, 0.65))
    return cv2.GaussianBlur(ink_on(210, thin, 80) * light, (0, 0), 1) + rng.normal(0, 2, page.shape)


def hollow(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Digits of which only the outline is drawn."""
    width = md.stroke_width((page > 0.5).astype(np.uint8))
    bold = cv2.dilate(np.pad(page, 12), md.disc(rng.uniform(0.2, 0.9) * width))
    line = bold - cv2.erode(bold, md.disc(rng.uniform(3, 6)))
    return cv2.GaussianBlur(ink_on(235, line, 40), (0, 0), 1) + rng.normal(0, 2, line.shape)


def ruled(page: np.ndarray, rng: Rng, both: bool = False) -> np.ndarray:
    """Ruled paper, the lines paler than the pen."""
    paper = np.full(page.shape, 245, np.float32)
    step, thickness = round(rng.uniform(35, 60)), int(rng.integers(1, 3))
    for y in range(int(rng.integers(step)), len(paper), step):
        paper[y : y + thickness] = 175
    for x in range(int(rng.integers(step)), paper.shape[1] if both else 0, step):
        paper[:, x : x + thickness] = 175
    return ink_on(paper, page, 40) + rng.normal(0, 2, page.shape)


def squared(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Squared paper."""
    return ruled(page, rng, both=True)


def form(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A field cut out of a form: remains of its frame along some of the edges."""
    picture = ink_on(250, page, 30)
    h, w = picture.shape
    thickness = int(rng.integers(2, 5))
    away = int(rng.integers(0, 6))
    strips = (
        np.s_[away : away + thickness, :],
        np.s_[h - away - thickness : h - away, :],
        np.s_[:, away : away + thickness],
        np.s_[:, w - away - thickness : w - away],
    )
    for strip in rng.permutation(4)[: rng.integers(1, 4)]:
        part = picture[strips[strip]]
        part = part if part.shape[0] > part.shape[1] else part.T  # along its length
        first, last = sorted(rng.integers(0, len(part) + 1, 2)) if rng.random() < 0.5 else (0, len(part))
        part[first:last] = 60
    return picture


def draw_box(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Draw a box around digits that touch it or nearly do, in half with lines between them: coverage (H, W)."""
    inked = (page > 0.3).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(inked)
    away, thickness, lines = int(rng.integers(0, 12)), int(rng.integers(1, 5)), np.zeros_like(page)
    cv2.rectangle(lines, (x - away, y - away), (x + w + away, y + h + away), 1, thickness)
    if rng.random() < 0.5:
        starts, ends = np.flatnonzero(np.diff(inked.any(axis=0).astype(int))).reshape(-1, 2).T
        for between in (starts[1:] + ends[:-1]) // 2:
            cv2.line(lines, (int(between), y - away), (int(between), y + h + away), 1, thickness)
    turn = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), rng.normal(0, 0.5), 1)
    return cv2.warpAffine(lines, turn, page.shape[::-1])


def boxed(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A box around digits, of the same ink or lighter."""
    picture = np.minimum(ink_on(230, page, 40), ink_on(230, draw_box(page, rng), rng.choice([40, 110])))
    return scan(picture, rng)


def broken_box(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A box around digits as a scanner leaves it, black on white, with parts of its lines missing."""
    lines = draw_box(page, rng)
    for _ in range(rng.integers(1, 12)):
        side = int(rng.integers(5, 150))
        x, y = rng.choice(np.argwhere(lines > 0))[::-1] - side // 2
        lines[max(y, 0) : y + side, max(x, 0) : x + side] = 0
        if not lines.any():
            break
    small = cv2.resize(np.maximum(page, lines), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.where(small > 0.4, 0.0, 255.0)


def circled(page: np.ndarray, rng: Rng, start: float = 0, gap: float = -0.2, size: float = 0.71) -> np.ndarray:
    """A circle drawn by hand around the digits, of the same pen or a lighter one."""
    page = np.pad(page, 40 + max(page.shape) // 4)
    x, y, w, h = cv2.boundingRect((page > 0.3).astype(np.uint8))
    turns = np.linspace(start, start + 2 * np.pi - gap, 80)
    wobble = 1 + 0.04 * np.sin(3 * turns + rng.uniform(0, 2 * np.pi))
    across, down = size * np.array([max(w, 0.9 * h), h]) + rng.uniform(5, 25)
    curve = np.stack([x + w / 2 + across * wobble * np.cos(turns), y + h / 2 + down * wobble * np.sin(turns)], axis=1)
    line, thickness = np.zeros_like(page), int(rng.integers(2, 9))
    cv2.polylines(line, [np.rint(curve).astype(int)], False, 1, thickness, cv2.LINE_AA)
    picture = np.minimum(ink_on(230, page, 40), ink_on(230, line, rng.choice([40, 110])))
    return scan(picture, rng)


def loosely_circled(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A circle drawn in haste, which does not close, or is so narrow that a digit may touch it."""
    if rng.random() < 0.5:
        return circled(page, rng, rng.uniform(0, 2 * np.pi), gap=rng.uniform(0.1, 1))
    return circled(page, rng, size=rng.uniform(0.5, 0.65))


def in_parentheses(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Parentheses around each line, as of a dialling code, or one behind it, as of a list."""
    page, is_list = np.pad(page, 80), rng.random() < 0.5
    for top, bottom in find_rows(page):
        columns, h = np.flatnonzero((page[top:bottom] > 0.5).any(axis=0)), bottom - top
        tall, deep, thickness = rng.uniform(0.55, 0.8) * h, rng.uniform(0.25, 0.4) * h, int(rng.integers(4, 11))
        for side, x in [(0, columns[-1])] + [(180, columns[0])] * (not is_list):
            away = (1 if side == 0 else -1) * (rng.uniform(0.1, 0.3) * h - deep / 2)
            middle = round(x + away), round((top + bottom) / 2 + rng.normal(0, 3))
            axes = round(deep), round(tall)
            cv2.ellipse(page, middle, axes, rng.normal(side, 4), -60, 60, 1, thickness, cv2.LINE_AA)
    return scan(ink_on(230, page, 40), rng)


def underlined(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A line drawn by hand below the digits, which nearly touch it, or two lines; they may rise or fall."""
    x, y, w, h = cv2.boundingRect((page > 0.3).astype(np.uint8))
    fall = np.linspace(-0.5, 0.5, 40) * rng.normal(0, 0.03) * w
    page = np.pad(page, ((0, 40 + 2 * math.ceil(fall.max())), (0, 0)))
    across, down = np.linspace(x - 10, x + w + 10, 40), y + h + rng.uniform(4, 20) + fall + fall.max()
    for away in (0, 14)[: rng.integers(1, 3)]:
        line = np.stack([across, down + away + np.sin(across / 20)], axis=1)
        cv2.polylines(page, [np.rint(line).astype(int)], False, 1, int(rng.integers(2, 7)), cv2.LINE_AA)
    return scan(ink_on(230, page, 40), rng)


def dropout(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A form whose printed boxes were filtered out, but for pieces of their lines above and below the digits."""
    picture = ink_on(250, page, 30)
    thickness, pen = int(rng.integers(2, 6)), rng.uniform(30, 150)
    for top, bottom in find_rows(page):
        away = round((bottom - top) * rng.uniform(0.04, 0.12))
        for y in (top - away - thickness, bottom + away):
            x = int(rng.integers(0, 150))
            while x < page.shape[1]:
                length = int(rng.integers(8, 60))
                if 0 <= y < len(page) - thickness:
                    picture[y : y + thickness, x : x + length] = pen
                x += length + int(rng.integers(10, 200))
    return picture


def show_through(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Print of the other side that shows through the paper."""
    back = np.zeros(page.shape, np.uint8)
    for y in range(20, len(back), 40):
        cv2.putText(back, "quick brown foxes jump " * 20, (5, y), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    behind = cv2.GaussianBlur(back[:, ::-1], (0, 0), 1.5) / 255.0
    return ink_on(ink_on(238, 0.1 * behind, 0), page, 40)


def desk(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A photograph with a strip of the dark desk along one or two edges."""
    h, w = page.shape
    picture = ink_on(225, page, 45)
    strip = round(0.06 * min(h, w)) + 1
    sides = np.s_[:strip], np.s_[-strip:], np.s_[:, :strip], np.s_[:, -strip:]
    for side in rng.permutation(4)[: rng.integers(1, 3)]:
        picture[sides[side]] = 70
    return cv2.GaussianBlur(picture, (0, 0), 1.2) + rng.normal(0, 3, picture.shape)


def lit(picture: np.ndarray, rng: Rng) -> np.ndarray:
    """Photograph a picture (H, W) in light that falls off to one side."""
    photograph = cv2.GaussianBlur(picture * (1 + 0.3 * slant(picture.shape, rng)), (0, 0), 1.2)
    return photograph + rng.normal(0, 3, picture.shape)


def framed(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A frame drawn by hand around the digits, not quite straight, on a photograph turned by up to six degrees."""
    page = np.pad(page, 50)
    x, y, w, h = cv2.boundingRect((page > 0.3).astype(np.uint8))
    away, outwards = rng.uniform(8, 40), np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    corners = (x + w / 2, y + h / 2) + outwards * (w / 2 + away, h / 2 + away) + rng.normal(0, 3, (5, 2))
    line = np.concatenate([np.linspace(start, end, 30) for start, end in pairwise(corners)])
    line += 1.5 * np.sin(np.arange(len(line)) / 7 + rng.uniform(0, 6))[:, np.newaxis]
    cv2.polylines(page, [np.rint(line).astype(int)], False, 1, int(rng.integers(4, 13)), cv2.LINE_AA)
    return lit(ink_on(230, rotate(page, rng.uniform(-6, 6)), 45), rng)


def askew(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A sheet photographed askew, so that the desk is seen in one corner or two."""
    h, w = page.shape
    corners = np.array([(-9.0, -9.0), (w + 9, -9), (w + 9, h + 9), (-9, h + 9)])
    inwards = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    for corner in rng.permutation(4)[: rng.integers(1, 3)]:
        corners[corner] += inwards[corner] * (9 + rng.uniform(0, 0.07, 2) * min(h, w))
    sheet = cv2.fillConvexPoly(np.zeros_like(page), np.rint(corners).astype(int), 1)
    return lit(np.where(sheet > 0, ink_on(rng.uniform(180, 240), page, 45), rng.uniform(20, 110)), rng)


def clipped(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A sheet that runs off the picture, but for one side or two, on a desk with a grain."""
    (h, w), far = page.shape, max(page.shape) // 2
    away = np.zeros(4, int)  # how much of the desk is seen above, below, on the left, on the right
    sides = rng.permutation(4)[: rng.integers(1, 3)]
    away[sides] = np.rint(rng.uniform(0.05, 0.5, len(sides)) * min(h, w))
    above, below, left, right = away.tolist()
    sheet = np.zeros((h + 2 * far, w + 2 * far), np.float32)
    sheet[far if above else 0 : far + h if below else None, far if left else 0 : far + w if right else None] = 1
    turn = cv2.getRotationMatrix2D((far + w / 2, far + h / 2), rng.normal(0, 2.5), 1)
    page, sheet = (
        cv2.warpAffine(part, turn, sheet.shape[::-1], borderMode=cv2.BORDER_REPLICATE)[
            far - above : far + h + below, far - left : far + w + right
        ]
        for part in (np.pad(page, far), sheet)
    )
    around = rng.uniform(20, 110) + rng.uniform(0, 12) * smooth_noise(page.shape, rng.uniform(4, 40), rng)
    return lit(np.where(sheet > 0.5, ink_on(rng.uniform(180, 240), page, 45), around), rng)


def wood(shape: tuple[int, int], rng: Rng) -> np.ndarray:
    """Return the wavy grain of a wooden desk, (H, W)."""
    across = slant(shape, rng) * max(shape) / rng.uniform(6, 25)
    waves = np.sin(2 * np.pi * (across + 0.8 * smooth_noise(shape, 60, rng)))
    return rng.uniform(50, 130) * (1 + 0.15 * waves + 0.05 * smooth_noise(shape, 2, rng))


def photograph(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A sheet on a wooden desk, all of it in the picture, seen from the side."""
    room = round(rng.uniform(0.15, 0.6) * min(page.shape))
    page = np.pad(page, round(0.15 * min(page.shape)))
    h, w = page.shape
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
    seen = corners + room + rng.uniform(-0.5, 0.5, (4, 2)) * min(1.2 * room, 0.25 * h)
    view = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    size = w + 2 * room, h + 2 * room
    page, sheet = (cv2.warpPerspective(part, view, size) for part in (page, np.ones_like(page)))
    paper, pen = rng.uniform(180, 245), rng.uniform(30, 90)
    return lit(np.where(sheet > 0.5, ink_on(paper, page, pen), wood(page.shape, rng)), rng)


def notebook(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A ruled sheet with a margin line on a wooden desk, the edge of a shadow across both."""
    room = round(rng.uniform(0.1, 0.4) * min(page.shape))
    page = np.pad(page, round(0.2 * min(page.shape)))
    paper, step = np.full(page.shape, rng.uniform(190, 245), np.float32), round(rng.uniform(35, 60))
    for y in range(int(rng.integers(step)), len(paper), step):
        paper[y : y + 2] -= 40
    x = round(rng.uniform(0.03, 0.08) * page.shape[1])
    paper[:, x : x + 3] -= 80
    h, w = page.shape[0] + 2 * room, page.shape[1] + 2 * room
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), rng.normal(0, 2.5), 1) @ [[1, 0, room], [0, 1, room], [0, 0, 1]]
    written, sheet = (cv2.warpAffine(part, turn, (w, h)) for part in (ink_on(paper, page, 45), np.ones_like(page)))
    edge = (slant((h, w), rng) + rng.uniform(-0.2, 0.2)) * max(h, w) / rng.uniform(1, 40)  # hard or soft
    light = 1 - rng.uniform(0.25, 0.5) / (1 + np.exp(np.clip(-edge, -30, 30)))
    return lit(np.where(sheet > 0.5, written, wood((h, w), rng)) * light, rng)


def glare(page: np.ndarray, rng: Rng) -> np.ndarray:
    """The bright spot of a lamp on glossy paper or, in two of five, on a dark board."""
    page = np.pad(page, round(0.3 * min(page.shape)))
    h, w = page.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    away = np.hypot(x - rng.uniform(0, w), y - rng.uniform(0, h)) / (rng.uniform(0.1, 0.3) * max(h, w))
    paper, pen = (rng.uniform(20, 80), rng.uniform(170, 240)) if rng.random() < 0.4 else (rng.uniform(130, 210), 50)
    picture = ink_on(paper, page, pen) + rng.uniform(50, 130) * np.exp(-(away**2) / 2)
    return scan(picture, rng)


def note(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A note that lies on something lighter or darker, in light that falls off to one side."""
    paper, around = rng.choice([[230, 130], [230, 60], [120, 200], [200, 90]])
    edge = round(rng.uniform(0.1, 0.2) * min(page.shape))
    picture = np.pad(ink_on(paper, page, 45), edge, constant_values=around)
    light = 0.65 + 0.5 * slant(picture.shape, rng)
    return cv2.GaussianBlur(picture * light, (0, 0), 1) + rng.normal(0, 2, picture.shape)


def binder(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A page with the holes of a binder along its left edge and a finger that holds it at the right one."""
    radius, room = rng.integers(8, 20).item(), rng.uniform(0.2, 1, 2) * len(page)
    sides = np.rint(room).astype(int), (5 * radius, round(0.3 * len(page)))
    picture = np.pad(ink_on(rng.uniform(180, 250), page, 50), sides, mode="edge")
    h, w = picture.shape
    for y in range(rng.integers(radius, 4 * radius), h, 5 * radius):
        cv2.circle(picture, (2 * radius, y), radius, 70, -1, cv2.LINE_AA)
    finger = round(0.2 * len(page)), round(rng.uniform(0.07, 0.12) * len(page))
    cv2.ellipse(picture, (w, int(rng.integers(h))), finger, rng.uniform(-20, 20), 0, 360, 145, -1)
    return scan(picture, rng)


def coloured(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A coloured pen on coloured paper hardly lighter or darker than it, beside a strip of coloured desk: (H, W, 3)."""
    paper = pen = np.zeros(3)
    while abs((paper - pen) @ [0.11, 0.59, 0.3]) > 40 or np.abs(paper - pen).max() < 90:  # luminance, channels
        paper, pen = rng.uniform(40, 255, (2, 3))
    picture = ink_on(paper, page[..., np.newaxis], pen)
    picture[:, : round(0.07 * min(page.shape))] = rng.uniform(0, 160, 3)
    return cv2.GaussianBlur(picture, (0, 0), 1) + rng.normal(0, 3, picture.shape)


def two_inks(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Digits in inks of two colours, in turn, on light paper: (H, W, 3), BGR."""
    inks = [(40, 40, 40), (40, 40, 200), (180, 70, 40), (40, 140, 50), (30, 140, 240), (170, 60, 150), (160, 150, 20)]
    pens = rng.permutation(inks)[:2]
    pieces = sorted(find_pieces(page, 9), key=lambda box: box.mid_x)
    color = np.tile(pens[0], (*page.shape, 1))
    for x, y, w, h in pieces[1::2]:
        color[y : y + h, x : x + w] = pens[1]
    return scan(ink_on(np.array([232, 236, 238]), page[..., np.newaxis], color), rng)


def tiled(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Each digit light on a dark tile, or dark on a light one, as plots and cards on a desk show them."""
    page, tiles = np.pad(page, 60), np.zeros(np.array(page.shape) + 120, np.float32)
    for box in find_pieces(page, 15):
        side = max(box.w, box.h)
        x, y = round(box.mid_x - side / 2), round(box.mid_y - side / 2)
        tiles[y : y + side, x : x + side] = 1
    paper, tile, pen = rng.permutation([[250, 20, 240], [250, 20, 240], [70, 230, 50]])[0]
    return cv2.GaussianBlur(ink_on(ink_on(paper, tiles, tile), page, pen), (0, 0), 0.7)


def blurred(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Out of focus, and saved as a strongly compressed JPEG."""
    picture = cv2.GaussianBlur(ink_on(220, page, 50), (0, 0), rng.uniform(2, 4)).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], 0).astype(np.float32)


def small(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Digits 13 to 16 pixels tall."""
    return plain(cv2.resize(page, None, fx=1 / 7, fy=1 / 7, interpolation=cv2.INTER_AREA), rng)


def large(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Twelve megapixels."""
    scale = (12e6 / page.size) ** 0.5
    page = cv2.resize(page, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return ink_on(np.linspace(200, 240, page.shape[1], dtype=np.float32), page, 50)


def zoomed(page: np.ndarray, rng: Rng) -> np.ndarray:
    """A bold pen out of focus, the picture cropped close to what it wrote."""
    bold = cv2.dilate(page, md.disc(6))
    x, y, w, h = cv2.boundingRect((bold > 0.5).astype(np.uint8))
    edge = int(rng.integers(3, 10))
    soft = cv2.GaussianBlur(bold[max(y - edge, 0) : y + h + edge, max(x - edge, 0) : x + w + edge], (0, 0), 4)
    return ink_on(np.linspace(165, 180, soft.shape[1], dtype=np.float32), soft, 80) + rng.normal(0, 2, soft.shape)


def cropped(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Cut out of a page so that parts of what stands around it are on the edges, at most a quarter of its height."""
    x, y, w, h = cv2.boundingRect((page > 0.1).astype(np.uint8))
    ink, edge = page[y : y + h, x : x + w], round(0.75 * h)
    around = np.pad(ink, edge)
    for side in rng.permutation(4)[: rng.integers(1, 4)]:
        around = np.rot90(around, side)  # what is on this side is on top
        beside = np.rot90(ink, side)[-round(h * rng.uniform(0.05, 0.25)) :]
        bottom = edge - round(h * rng.uniform(0.15, 0.5))
        around[bottom - len(beside) : bottom, edge : edge + beside.shape[1]] = beside
        around[: bottom - len(beside)] = -1  # outside of the picture
        around = np.rot90(around, -side)
    inside = (around >= 0).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(inside)
    return cv2.GaussianBlur(ink_on(220, np.maximum(around[y : y + h, x : x + w], 0), 45), (0, 0), 1)


Kind = Callable[[np.ndarray, Rng], np.ndarray]  # coverage -> picture
PAPERS: tuple[Kind, ...] = (
    *(plain, rough, faint, old_crop, shadow, thin_pen, hollow, ruled, squared),
    *(form, boxed, broken_box, circled, loosely_circled, in_parentheses, underlined, dropout, show_through),
    *(desk, framed, askew, clipped, photograph, notebook, note, glare, binder, coloured, two_inks, blurred, small),
    *(large, zoomed, cropped),
)
KINDS: dict[str, tuple[Kind, float, float]] = {  # paper, gap between digits in heights, degrees of slope at most
    **{paper.__name__.replace("_", " "): (paper, 0.15, 0) for paper in PAPERS},
    "tiled": (tiled, 1.6, 0),
    "sloping": (plain, 0.15, 15),
    "touching": (plain, -0.1, 0),
}


def draw(kind: str, digits: list[list[np.ndarray]], rng: Rng) -> np.ndarray:
    """Draw lines of digits on a picture of a kind, (H, W) or (H, W, 3) uint8."""
    paper, gap, slope = KINDS[kind]
    lines = [write_line(line, 100, gap, rng) for line in digits]
    picture = paper(compose(lines, rng.uniform(0.25, 0.7), rng.uniform(-slope, slope)), rng)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def make(kind: str, layout: str, count: int, x: np.ndarray, y: np.ndarray, folder: Path) -> list[tuple[Path, str]]:
    """Draw and save so many pictures of a kind and a layout, "one" or "text"; return their paths and labels."""
    rng = np.random.default_rng([*kind.encode(), layout == "one"])
    made = []
    for number in range(count):
        longest = 4 if kind == "touching" else 12
        length = 1 if layout == "one" else int(rng.integers(2, longest + 1))
        rows = 1 if length == 1 or rng.random() < 0.8 else int(rng.integers(2, 5))
        chosen = rng.integers(0, len(x), (rows, length))
        label = "".join(str(y[index]) for index in chosen.ravel())
        picture = draw(kind, [[x[index] for index in line] for line in chosen], rng)
        suffix = ".jpg" if kind == "large" else ".png"
        path = folder / f"{kind.replace(' ', '-')}-{layout}-{number:03}-{label[:40]}{suffix}"
        path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
        made.append((path, label))
    return made


def measure(made: list[tuple[Path, str]], predict: md.Predict, look: Path | None) -> float:
    """Return the share of pictures whose whole text is read right; save the others where they are to be looked at."""
    right = []
    for (path, label), reading in zip(made, md.read_pictures([str(path) for path, _ in made], predict), strict=True):
        right.append(reading.characters == label)
        if look and not right[-1]:
            shutil.copy(path, look / f"{path.stem}-read-{reading.characters[:40]}{path.suffix}")
    return float(np.mean(right))


def table(found: dict) -> list[str]:
    """Return the lines of the README's table, one for each kind."""
    lines = [f"| drawn, read right | one digit, of {found['ones']} | a text, of {found['texts']} |", "|---|---|---|"]
    for kind, shares in found["kinds"].items():
        lines.append(f"| {kind} | {100 * shares['one']:.1f} % | {100 * shares['text']:.0f} % |")
    return lines


def main() -> None:
    """Draw, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist", help="a copy of MNIST, where it cannot be downloaded")
    parser.add_argument("--model", type=Path, default=md.BUNDLED, help="the network")
    parser.add_argument("--validation", action="store_true", help="digits held out of training, not test digits")
    parser.add_argument("--ones", type=int, default=200, metavar="N", help="pictures of one digit of each kind")
    parser.add_argument("--texts", type=int, default=100, metavar="N", help="pictures of several of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only these")
    parser.add_argument("--look", type=Path, metavar="FOLDER", help="where to save the pictures that are misread")
    args = parser.parse_args()
    data = md.load_data(args.data)
    x, y = md.split_off(data, 0.05)[2:] if args.validation else (data.x_test, data.y_test)
    if args.look:
        args.look.mkdir(parents=True, exist_ok=True)
    predict = md.load_network(args.model)
    found = {"date": datetime.date.today().isoformat(), "ones": args.ones, "texts": args.texts, "kinds": {}}
    for kind in args.kinds:
        shares = found["kinds"][kind] = {}
        with tempfile.TemporaryDirectory() as folder:
            for layout, count in (("one", args.ones), ("text", args.texts)):
                made = make(kind, layout, count, x, y, Path(folder))
                shares[layout] = measure(made, predict, args.look)
        print(kind, shares, file=sys.stderr, flush=True)
    print(*table(found), sep="\n")
    if not args.validation and list(found["kinds"]) == list(KINDS):
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
