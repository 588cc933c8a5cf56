#!/usr/bin/env python3
"""Measure how fast and how well mnist_digits.py reads, beside what public scripts do with the same network.

    python benchmarks/reading.py                          speed, on pictures made here
    python benchmarks/reading.py FOLDER                   and accuracy, on labelled pictures
    python benchmarks/reading.py --model output/mnist     the network: .keras for the peer, .onnx for us

FOLDER holds any of own/ (one digit), multi/ (several) and nondigit/ (none), each with an index.csv of file, label, ...,
and sets/semeion.npz with small pictures x and labels y. In multi/ and nondigit/, files that begin with x were collected
later.
The peer is "invert and resize": gray, inverted if it is light, the whole picture resized to 28 x 28, all of them in one
call of Keras's model.predict. "Box and centre" adds MNIST's own geometry to it. What is measured is printed and saved
in benchmarks/results/reading.json; benchmarks/figures/confidence.png shows what --min-confidence does.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import math
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "samples")]

import draw_samples  # noqa: E402

import mnist_digits as md  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "reading.json"
FIGURE = ROOT / "benchmarks" / "figures" / "confidence.png"
LINES = {"own": "one digit, read right", "nondigit": "no digit, refused"}
LEAST = [round(0.05 * step, 2) for step in range(20)]  # confidences from which a digit counts
PARTS = {
    "own": "one digit",
    "multi": "several digits, the whole text",
    "nondigit": "no digit, rightly refused",
    "semeion": "Semeion, 16 x 16 pixels",
}
PEER = """
import sys, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import cv2, keras, numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
batch = []
for path in sys.stdin.read().splitlines():
    gray = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    gray = 255 - gray if gray.mean() > 127 else gray
    batch.append(cv2.resize(gray, (28, 28), interpolation=cv2.INTER_AREA))
print(model.predict(np.array(batch)[..., None] / 255, verbose=0).argmax(axis=1).tolist())
"""


def draw(kind: str, count: int, folder: Path) -> list[str]:
    """Draw `count` pictures of a kind and return their paths; they differ in digit, pen and place."""
    rng = np.random.default_rng(1)
    paths = []
    for number in range(count):
        label = str(number % 10)
        if kind == "28 x 28 PNG":
            page = draw_samples.plain(28, 28)
            draw_samples.write(page, draw_samples.pen(label, 18, 2, rng), 6, 4, draw_samples.BLACK)
            suffix = ".png"
        elif kind == "400 x 400 PNG":
            page = draw_samples.plain(400, 400)
            draw_samples.write(page, draw_samples.pen(label, 250, 14, rng), 90, 60, draw_samples.BLACK)
            suffix = ".png"
        else:
            page = draw_samples.shaded(3000, 4000, rng)
            draw_samples.write(page, draw_samples.pen(label, 1200, 60, rng), 1500, 900, draw_samples.BLUE)
            suffix = ".jpg"
        path = folder / f"{label}-{kind.split()[0]}-{number}{suffix}"
        path.write_bytes(cv2.imencode(suffix, page)[1].tobytes())
        paths.append(str(path))
    return paths


def run(command: list[str], given: str = "") -> tuple[float, float, str]:
    """Run a command; return its seconds, the most memory it held in MB, and what it printed."""
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+") as stdout:
        stdin.write(given)
        stdin.seek(0)
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        stdout.seek(0)
        return seconds, usage.ru_maxrss / 1024, stdout.read()


def ours(paths: list[str], model: Path) -> tuple[float, float, list[dict]]:
    """Read pictures as a user would, through a folder's worth of arguments."""
    command = [sys.executable, str(ROOT / "mnist_digits.py"), "--json", "--model", f"{model}.onnx"]
    folders = sorted({str(Path(path).parent) for path in paths})
    seconds, memory, printed = run([*command, *(folders if len(paths) > 1000 else paths)])
    readings = {reading["path"]: reading for reading in map(json.loads, printed.splitlines())}
    return seconds, memory, [readings[path] for path in paths]  # a folder is read in an order of its own


def peer(paths: list[str], model: Path) -> tuple[float, float, str]:
    """Read pictures as public scripts do."""
    return run([sys.executable, "-c", PEER, f"{model}.keras"], "\n".join(paths))


def measure_speed(model: Path, counts: dict[str, int]) -> list[dict]:
    """Time both on each kind of picture: the whole process, and steady state as the time that more pictures add."""
    rows = []
    for kind, count in counts.items():
        with tempfile.TemporaryDirectory() as folder:
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # a child's peak is at least its parent's size
                paths = pool.apply(draw, (kind, count, Path(folder)))
            few = paths[: max(count // 10, 1)]
            row = {"kind": kind, "n": count}
            for name, read in (("ours", ours), ("peer", peer)):
                seconds, memory, _ = read(paths, model)
                seconds_few, memory_few, _ = read(few, model)
                row[name] = {
                    "seconds": round(seconds, 2),
                    "per_second_whole": round(count / seconds, 1),
                    "per_second_steady": round((count - len(few)) / max(seconds - seconds_few, 1e-3), 1),
                    "peak_mb": round(memory),
                    "peak_mb_of_a_tenth": round(memory_few),
                }
            row["ratio_whole"] = round(row["peer"]["seconds"] / row["ours"]["seconds"], 2)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def invert_and_resize(path: str) -> np.ndarray:
    """Return what the peer makes of a picture."""
    gray = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    gray = 255 - gray if gray.mean() > 127 else gray
    return cv2.resize(gray, (28, 28), interpolation=cv2.INTER_AREA)


def box_and_centre(path: str) -> np.ndarray:
    """Return the digit that MNIST's own geometry, and nothing else, makes of a picture."""
    gray = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    ink = 255 - gray if gray.mean() > 127 else gray
    ink = np.where(ink > 0.5 * ink.max(), ink, 0).astype(np.uint8)
    return md.fit_digit(ink) if ink.any() else np.zeros((28, 28), np.uint8)


def tesseract(mode: int, path: str) -> str:
    """Read digits with Tesseract, page segmentation mode 10 for one character, 6 for a block of text."""
    command = ["tesseract", path, "-", "--psm", str(mode), "-c", "tessedit_char_whitelist=0123456789"]
    return "".join(subprocess.run(command, capture_output=True, text=True).stdout.split())


def measure_set(path: Path, model: Path) -> dict:
    """Read a set of small pictures x with labels y, white on black, each as the one digit that it is."""
    with np.load(path) as arrays:
        x, y = arrays["x"], arrays["y"]
    side = math.isqrt(x[0].size)
    digits = np.zeros((len(x), 28, 28), np.uint8)
    for digit, picture in zip(digits, x, strict=True):
        for row in md.find_digits(np.where(picture.reshape(side, side) > 0, 255, 0).astype(np.uint8), one=True).rows:
            digit[:] = md.to_digit(row[0].ink)
    predict = md.load_network(Path(f"{model}.onnx"))
    small = np.stack([cv2.resize(picture.reshape(side, side), (28, 28)) for picture in x])
    row = {"part": path.stem, "n": len(x), "ours": float(np.mean(md.read_digits(digits, predict).argmax(axis=1) == y))}
    row["invert and resize"] = float(np.mean(predict(md.to_batch(small)).argmax(axis=1) == y))
    print(json.dumps(row), flush=True)
    return row


def distance(a: str, b: str) -> int:
    """Return the least number of characters to insert, delete or change that makes a of b (Levenshtein, 1966)."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        row, last = [i], row
        for j, other in enumerate(b, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (one != other)))
    return row[-1]


def measure_part(folder: Path, index: list[dict[str, str]], model: Path) -> dict:
    """Read the labelled pictures of a folder in each way; return the share read right."""
    paths, labels = [str(folder / row["file"]) for row in index], [row["label"] for row in index]
    readings = ours(paths, model)[2]
    texts = {"ours": ["".join((reading["text"] or "").split()) for reading in readings]}
    predict = md.load_network(Path(f"{model}.onnx"))
    for name, to_digit in (("invert and resize", invert_and_resize), ("box and centre", box_and_centre)):
        probs = predict(md.to_batch(np.stack([to_digit(path) for path in paths])))
        texts[name] = [str(digit) for digit in probs.argmax(axis=1)]
    if shutil.which("tesseract"):
        with ThreadPoolExecutor() as pool:
            texts["Tesseract"] = list(pool.map(partial(tesseract, 10 if folder.name == "own" else 6), paths))
    row = {"part": folder.name, "n": len(paths)}
    for name, read in texts.items():
        if folder.name == "nondigit":
            right = [not any(character.isdigit() for character in text) for text in read]
        else:
            right = [text == label for text, label in zip(read, labels, strict=True)]
        row[name] = round(float(np.mean(right)), 6)
        if name == "ours" and folder.name != "own":
            later = np.array([entry["file"].startswith("x") for entry in index])
            for which, chosen in (("collected first", ~later), ("collected later", later)):
                row[which] = [int(np.compress(chosen, right).sum()), int(chosen.sum())]
    if folder.name == "multi":
        edits = sum(distance(text, label) for text, label in zip(texts["ours"], labels, strict=True))
        row["ours, of digits"] = round(1 - edits / sum(map(len, labels)), 4)
    if folder.name == "own":
        pairs = [(r, label) for r, label in zip(readings, labels, strict=True) if len(r["digits"]) == 1]
        right = np.array([str(r["digits"][0]["digit"]) == label for r, label in pairs])
        confidence = np.array([r["confidence"] for r, _ in pairs])
        row["ece"] = round(md.calibration_error(confidence, right), 4)
    if folder.name in LINES:
        row["ours, by confidence"] = right_by_confidence(readings, labels)
    print(json.dumps(row), flush=True)
    return row


def right_by_confidence(readings: list[dict], labels: list[str]) -> list[float]:
    """Return the share of pictures read right, or refused where the label is "", at each of the LEAST confidences."""
    shares = []
    for least in LEAST:
        texts = ["".join(str(d["digit"]) for d in r["digits"] if d["confidence"] >= least) for r in readings]
        shares.append(round(float(np.mean([text == label for text, label in zip(texts, labels, strict=True)])), 4))
    return shares


def draw_confidence(rows: list[dict], path: Path) -> None:
    """Draw how many digits are read right and how many other pictures refused, against the least confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        if row["part"] in LINES:
            axes.plot(LEAST, row["ours, by confidence"], marker="o", markersize=4, label=LINES[row["part"]])
    axes.axvline(md.MIN_CONFIDENCE, color="#8a8a8a", linestyle="--", label="default")
    axes.set(xlabel="--min-confidence", ylabel="share of pictures", xlim=(0, 1), ylim=(0.6, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=110)


def measure_accuracy(folder: Path, model: Path) -> list[dict]:
    """Read the labelled pictures of a folder in each way; return the share read right of each part."""
    rows = []
    for part in ("own", "multi", "nondigit"):
        if (folder / part / "index.csv").is_file():
            with open(folder / part / "index.csv", newline="", encoding="utf-8") as file:
                rows.append(measure_part(folder / part, list(csv.DictReader(file)), model))
    sets = folder / "sets" / "semeion.npz"
    return [*rows, measure_set(sets, model)] if sets.is_file() else rows


def tables(result: dict) -> list[str]:
    """Return the lines of the README's two tables: accuracy, then speed."""

    def percent(share: float) -> str:
        return f"{share:.1%}".replace("%", " %")

    ways = ("invert and resize", "box and centre", "Tesseract")
    lines = ["| read right | n | ours | invert and resize | MNIST's box and centre | Tesseract 5 |", "|---" * 6 + "|"]
    for row in result["accuracy"]:
        cells = [PARTS.get(row["part"], row["part"]), f"{row['n']:,}", f"**{percent(row['ours'])}**"]
        lines.append(f"| {' | '.join(cells + [percent(row[way]) if way in row else '' for way in ways])} |")
    lines += [
        "| pictures a second, the whole process | n | ours | invert and resize, Keras | ratio |",
        "|---" * 5 + "|",
    ]
    for row in result["speed"]:
        ours, theirs = row["ours"]["per_second_whole"], row["peer"]["per_second_whole"]
        lines.append(f"| {row['kind']} | {row['n']:,} | {ours:,.0f} | {theirs:,.0f} | {row['ratio_whole']} |")
    return lines


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="labelled pictures")
    parser.add_argument("--model", type=Path, default=ROOT / "output" / "mnist", help="network without its suffix")
    parser.add_argument("--small", type=int, default=10_000, help="number of 28 x 28 pictures")
    args = parser.parse_args()
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, OpenCV {cv2.__version__}"
    )
    result = {"date": datetime.date.today().isoformat(), "machine": machine}
    counts = {"28 x 28 PNG": args.small, "400 x 400 PNG": max(args.small // 10, 10), "12 megapixel JPEG": 20}
    result["speed"] = measure_speed(args.model, counts)
    result["accuracy"] = measure_accuracy(args.folder, args.model) if args.folder else []
    RESULTS.parent.mkdir(exist_ok=True)
    if args.folder:
        draw_confidence(result["accuracy"], FIGURE)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(*tables(result), sep="\n")


if __name__ == "__main__":
    main()
