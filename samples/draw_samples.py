#!/usr/bin/env python3
"""Draw the pictures of this folder: digits as pen strokes, each named by what it shows.

    python samples/draw_samples.py            draw them again, byte for byte alike with the same OpenCV

Nobody's handwriting and no font: each digit is a few curves, which a trembling pen of changing width follows.
The tests and the benchmarks draw their pictures with the same pen.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

# Strokes on a sheet of 1 x 1, x to the right and y down; a stroke is a smooth curve through its points.
STROKES = {
    "0": [[(0.5, 0), (0.15, 0.2), (0.05, 0.55), (0.3, 0.97), (0.7, 0.95), (0.95, 0.5), (0.8, 0.1), (0.5, 0)]],
    "1": [[(0.3, 0.25), (0.5, 0.12), (0.6, 0)], [(0.6, 0), (0.58, 0.5), (0.55, 1)]],
    "2": [
        [(0.1, 0.25), (0.3, 0.02), (0.75, 0.05), (0.85, 0.3), (0.55, 0.65), (0.1, 1)],
        [(0.1, 1), (0.5, 0.95), (0.95, 1)],
    ],
    "3": [
        [(0.1, 0.12), (0.45, 0), (0.8, 0.15), (0.7, 0.38), (0.4, 0.48)],
        [(0.4, 0.48), (0.8, 0.58), (0.85, 0.85), (0.45, 1), (0.08, 0.88)],
    ],
    "4": [
        [(0.45, 0), (0.27, 0.35), (0.08, 0.65)],
        [(0.08, 0.65), (0.5, 0.66), (0.95, 0.62)],
        [(0.7, 0.3), (0.68, 0.65), (0.66, 1)],
    ],
    "5": [
        [(0.85, 0.03), (0.5, 0.02), (0.25, 0.04)],
        [(0.25, 0.04), (0.2, 0.25), (0.18, 0.45)],
        [(0.18, 0.45), (0.5, 0.36), (0.85, 0.55), (0.8, 0.88), (0.45, 1), (0.1, 0.9)],
    ],
    "6": [
        [
            *[(0.75, 0.03), (0.35, 0.25), (0.12, 0.65), (0.3, 0.97), (0.7, 0.97)],
            *[(0.85, 0.72), (0.6, 0.52), (0.25, 0.6), (0.15, 0.75)],
        ]
    ],
    "7": [[(0.1, 0.05), (0.5, 0.04), (0.9, 0.03)], [(0.9, 0.03), (0.6, 0.45), (0.4, 1)]],
    "8": [
        [
            *[(0.75, 0.12), (0.45, 0), (0.2, 0.15), (0.35, 0.4), (0.7, 0.6), (0.8, 0.85)],
            *[(0.5, 1), (0.18, 0.85), (0.3, 0.6), (0.65, 0.4), (0.8, 0.2), (0.75, 0.12)],
        ]
    ],
    "9": [
        [(0.85, 0.2), (0.5, 0.02), (0.18, 0.2), (0.3, 0.48), (0.65, 0.45), (0.85, 0.2)],
        [(0.85, 0.2), (0.82, 0.6), (0.7, 1)],
    ],
}
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
BLUE, RED, PENCIL = (150, 60, 20), (40, 30, 200), (95, 95, 100)  # BGR


def curve(points: np.ndarray, steps: int = 40) -> np.ndarray:
    """Run a smooth curve through points (N, 2): (M, 2), a Catmull-Rom spline."""
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps)[:, None]
    pieces = [
        ((2 * b) + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate(pieces)


def tremble(rng: np.random.Generator, length: int, size: float) -> np.ndarray:
    """Return a slow random walk around 0, (length,), whose deviations are about `size`."""
    knots = rng.normal(0, size, 2 + length // 30)
    return np.interp(np.linspace(0, len(knots) - 1, length), np.arange(len(knots)), knots)


def pen(digit: str, height: int, width: float, rng: np.random.Generator, slant: float | None = None) -> np.ndarray:
    """Draw a digit `height` pixels tall with a pen `width` pixels wide: coverage (H, W), 0 .. 1, cut to its box."""
    slant = rng.normal(0.1, 0.12) if slant is None else slant
    aspect = rng.uniform(0.6, 0.75)
    margin, fine = int(width + 0.12 * height) + 2, 4 if height < 1000 else 1
    paths = []
    for points in STROKES[digit]:
        points = np.array(points) + rng.normal(0, 0.008, (len(points), 2))
        path = curve(points)
        path += np.stack([tremble(rng, len(path), 0.006), tremble(rng, len(path), 0.006)], axis=1)
        x, y = path.T
        paths.append(np.stack([(x * aspect + slant * (1 - y)) * height, y * height], axis=1))
    everything = np.concatenate(paths)
    low, size = everything.min(axis=0), np.ptp(everything, axis=0)
    canvas = np.zeros([round(fine * (extent + 2 * margin)) for extent in size[::-1]], np.uint8)
    for path in paths:
        widths = width * (1 + tremble(rng, len(path), 0.12))
        spots = (path - low + margin) * fine
        for start, end, thickness in zip(spots, spots[1:], widths, strict=False):
            cv2.line(canvas, *(tuple(map(round, spot)) for spot in (start, end)), 255, max(1, round(thickness * fine)))
    x, y, w, h = cv2.boundingRect(canvas)
    canvas = canvas[y : y + h, x : x + w]
    return cv2.resize(canvas, (max(1, w // fine), max(1, h // fine)), interpolation=cv2.INTER_AREA) / 255


def write(paper: np.ndarray, coverage: np.ndarray, x: int, y: int, color: tuple[int, int, int]) -> None:
    """Put a drawn digit on paper (H, W, 3) uint8, its upper left corner at x, y."""
    h, w = coverage.shape
    part = paper[y : y + h, x : x + w]
    part[:] = np.rint(part + (np.array(color) - part) * coverage[: part.shape[0], : part.shape[1], None])


def plain(height: int, width: int, color: tuple[int, int, int] = WHITE) -> np.ndarray:
    """Return a sheet (H, W, 3) uint8 of one colour."""
    return np.full((height, width, 3), color, np.uint8)


def lined(height: int, width: int) -> np.ndarray:
    """Return a sheet of exercise-book paper: pale blue lines on off-white."""
    paper = plain(height, width, (238, 246, 248))
    for y in range(height // 10, height, height // 6):
        cv2.line(paper, (0, y), (width, y), (225, 205, 180), max(1, height // 200))
    return paper


def shaded(height: int, width: int, rng: np.random.Generator, dark: float = 0.45) -> np.ndarray:
    """Return a sheet as a phone sees it: warm light that falls off to one corner, and grain."""
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    light = 1 - dark * (0.6 * across + 0.4 * down) ** 1.5
    sheet = light[..., None] * np.array([205, 222, 230]) + rng.normal(0, 2, (height, width, 1))
    return np.clip(sheet, 0, 255).astype(np.uint8)


def samples(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw all samples: file name -> picture (H, W, 3 or 4) uint8."""
    pictures = {}
    for digit in STROKES:
        paper = plain(200, 200)
        write(paper, pen(digit, 120, rng.uniform(6, 14), rng), *rng.integers(20, 55, 2), BLACK)
        pictures[f"{digit}.png"] = paper

    board = plain(240, 320, BLACK)
    write(board, pen("4", 140, 11, rng), 110, 40, WHITE)
    pictures["4-white-on-black.png"] = board

    glass = plain(256, 256, RED)
    coverage = np.zeros((256, 256, 3), np.uint8)
    write(coverage, pen("7", 150, 13, rng), 70, 50, WHITE)
    pictures["7-transparent.png"] = np.dstack([glass, coverage[..., :1]])

    page = lined(360, 300)
    write(page, pen("3", 150, 6, rng), 90, 100, BLUE)
    pictures["3-blue-pen-on-lined-paper.png"] = page

    page = shaded(480, 640, rng)
    write(page, pen("5", 200, 7, rng), 260, 120, PENCIL)
    pictures["5-pencil-on-shaded-paper.jpg"] = page

    page = shaded(2400, 3200, rng, dark=0.3)
    write(page, pen("8", 900, 40, rng), 1300, 700, BLUE)
    pictures["8-large-photo.jpg"] = page

    page, x = shaded(300, 700, rng, dark=0.2), 60
    for digit in "2026":
        drawn = pen(digit, int(rng.integers(120, 150)), 8, rng)
        write(page, drawn, x, int(rng.integers(60, 90)), BLACK)
        x += drawn.shape[1] + int(rng.integers(35, 60))
    pictures["2026-row.jpg"] = page
    return pictures


if __name__ == "__main__":
    for name, picture in samples(np.random.default_rng(2026)).items():
        path = Path(__file__).with_name(name)
        _, content = cv2.imencode(path.suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 75] if name.endswith("jpg") else [])
        path.write_bytes(content.tobytes())
        print(path)
