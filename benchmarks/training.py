#!/usr/bin/env python3
"""Measure how well and how fast mnist_digits.py trains, beside Keras's own MNIST example.

    python benchmarks/training.py                         what is compared, one after the other, once each
    python benchmarks/training.py --seeds 5               with mean and standard deviation over seeds 0 to 4
    python benchmarks/training.py --data mnist.npz        where MNIST cannot be downloaded

The default run, `--epochs 1` and `--epochs 2` are those of mnist_digits.py. "Keras's example" is the recipe of
mnist_convnet, at keras.io/examples/vision/mnist_convnet: two convolutions, 15 epochs. Each training has a process of
its own, and all are trained with one seed before any is with the next, so that a machine that slows down slows them
all. The test digits are read after each epoch while the clock stands; nothing is chosen by what they show. What is
measured is printed and saved in benchmarks/results/training.json and drawn in benchmarks/figures/training.png.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mnist_digits as md  # noqa: E402

md.start_tensorflow()

import keras  # noqa: E402
from keras import layers  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "training.json"
BUNDLED = RESULTS.with_name("bundled.json")  # the metrics.json that the bundled network's training left
FIGURE = ROOT / "benchmarks" / "figures" / "training.png"
LEVELS = (0.98, 0.99, 0.995)
PEER = "Keras's example"
PARTS = ("default", "`--epochs 1`", "`--epochs 2`", PEER)
COLORS = dict(zip(PARTS, ("#1f77b4", "#b3d1ea", "#7fb2d9", "#c8401f"), strict=True))


class Clock(keras.callbacks.Callback):
    """Notes the test accuracy after each epoch with the seconds of training until then; the test itself takes none."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take the test digits (N, 28, 28) uint8 and their labels (N,)."""
        super().__init__()
        self.batch, self.labels = md.to_batch(x), y
        self.start, self.curve = time.perf_counter(), []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Read the test digits."""
        now = time.perf_counter()
        read = np.concatenate(
            [
                self.model.predict_on_batch(self.batch[start : start + 1000]).argmax(axis=1)
                for start in range(0, len(self.batch), 1000)
            ]
        )
        self.curve.append((round(now - self.start, 1), round(float(np.mean(read == self.labels)), 4)))
        self.start += time.perf_counter() - now


def train_ours(part: str, data: md.Data, seed: int, clock: Clock) -> keras.Model:
    """Train one of our networks as the command line does, from splitting the data on."""
    args = md.parse_arguments([] if part == "default" else part.strip("`").split())
    recipe = md.choose_recipe(args, len(data.x_train))
    clock.start = time.perf_counter()
    parts = md.split_off(data, args.validation_split)
    with tempfile.TemporaryDirectory() as folder:
        return md.train(recipe, parts, seed, Path(folder) / "checkpoint.weights.h5", [clock])[0]


def train_peer(data: md.Data, seed: int, clock: Clock) -> keras.Model:
    """Train as Keras's example does."""
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    clock.start = time.perf_counter()
    x, y = md.to_batch(data.x_train), keras.utils.to_categorical(data.y_train, 10)
    network.fit(x, y, batch_size=128, epochs=15, validation_split=0.1, callbacks=[clock], verbose=0)
    return network


def count_products(network: keras.Model) -> int:
    """Return the multiply-adds that a network's convolutions and dense layers take for one digit."""
    products = 0
    for layer in network._flatten_layers():
        if isinstance(layer, layers.Conv2D):
            products += int(np.prod(layer.output.shape[1:])) * int(np.prod(layer.kernel.shape[:3]))
        elif isinstance(layer, layers.Dense):
            products += int(np.prod(layer.kernel.shape))
    return products


def seconds_to(curves: list[list[tuple[float, float]]], level: float) -> float | None:
    """Return the mean of the seconds after which an accuracy was first seen; None if a curve never gets there."""
    first = [next((seconds for seconds, accuracy in curve if accuracy >= level), None) for curve in curves]
    return None if None in first else round(sum(first) / len(first), 1)


def measure_one(part: str, source: str, seed: int) -> dict[str, Any]:
    """Train one part with one seed; return its curve of (seconds, test accuracy) and what its network takes."""
    data = md.load_data(source)
    clock = Clock(data.x_test, data.y_test)
    network = train_peer(data, seed, clock) if part == PEER else train_ours(part, data, seed, clock)
    seconds, accuracy = clock.curve[-1]
    print(f"{part}, seed {seed}: {accuracy:.2%} after {seconds:.0f} s", flush=True)
    return {"curve": clock.curve, "parameters": network.count_params(), "multiply_adds": count_products(network)}


def measure_memory(source: str, kept: bool) -> dict[str, float]:
    """Train for an epoch, with or without keeping the memory that steps free; return its seconds and page faults."""
    if not kept:
        md.keep_memory = lambda: None
    data = md.load_data(source)
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = measure_one("`--epochs 1`", source, 0)["curve"][-1][0]
    after = resource.getrusage(resource.RUSAGE_SELF)
    steps = len(data.x_train) * 0.95 / md.RECIPES["cnn"].batch_size
    return {"seconds": seconds, "page_faults_a_step": round((after.ru_minflt - before.ru_minflt) / steps)}


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, called in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def summarize(runs: list[dict[str, Any]], peers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is told of the runs of a part, one for each seed, and of the peer's, for the ratio of seconds."""
    curves = [run["curve"] for run in runs]
    seconds, accuracies = np.array([curve[-1] for curve in curves]).T
    ratios = [run["curve"][-1][0] / peer["curve"][-1][0] for run, peer in zip(runs, peers, strict=False)]
    return {
        "n": len(runs),
        "accuracy": round(float(accuracies.mean()), 5),
        "accuracy_sd": round(float(accuracies.std(ddof=1)), 5) if len(runs) > 1 else None,
        "seconds": round(float(seconds.mean()), 1),
        "ratio": round(float(np.mean(ratios)), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "seconds_to": {f"{level:.1%}": seconds_to(curves, level) for level in LEVELS},
        "parameters": runs[0]["parameters"],
        "multiply_adds": runs[0]["multiply_adds"],
        "curves": curves,
    }


def processor() -> str:
    """Return the processor's name, where the system tells it, and the widest instructions that it multiplies with."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    name = re.search(r"model name\s*: (.*)", told)
    widest = next(
        (name for flag, name in (("amx", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in told), ""
    )
    return f"{name[1] if name else platform.machine()} with {widest or 'SSE'}"


def measure_augmentation(data: md.Data) -> dict:
    """Count the digits a second that Keras's own generator turns and moves, and ours, in batches of 256."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    x, targets = data.x_train[:5120], md.ONE_HOT[data.y_train[:5120]]
    recipe = md.RECIPES["cnn"]._replace(batch_size=256)
    poses_alone = recipe._replace(clean=0, elastic=False, outliers=0)
    ways = {
        "Keras": ImageDataGenerator(**md.POSES).flow(md.to_batch(x), targets, batch_size=256, seed=0),
        "ours, the same": md.make_batches(poses_alone, x, targets, 0),
        "ours, with bends, pens and others": md.make_batches(recipe, x, targets, 0),
    }
    rates = {}
    for way, batches in ways.items():
        start = time.perf_counter()
        for _ in range(len(x) // 256):
            next(batches)
        rates[way] = round(len(x) / (time.perf_counter() - start))
    return rates


def table(result: dict, bundled: dict) -> list[str]:
    """Return the lines of the README's table: what was measured here, and what the bundled network's training told."""
    lines = [
        "| | n | test digits read right | seconds | ratio | to 98 % | to 99 % | to 99.5 % | multiply-adds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def right(mean: float, deviation: float | None) -> str:
        return f"{100 * mean:.2f}" + (f" ± {100 * deviation:.2f}" if deviation else "") + " %"

    for part, of in result["parts"].items():
        cells = [part, of["n"], right(of["accuracy"], of["accuracy_sd"]), f"{of['seconds']:.0f}", of["ratio"]]
        cells += [f"{seconds:.0f} s" if seconds else "not by all seeds" for seconds in of["seconds_to"].values()]
        lines.append(f"| {' | '.join(map(str, cells))} | {of['multiply_adds'] / 1e6:.1f} M |")
    settings = bundled["settings"]
    products = count_products(md.build_network(md.RECIPES[settings["network"]])) / 1e6
    command = f"`--network {settings['network']} --epochs {settings['epochs']}`"
    return [*lines, f"| bundled: {command} | 1 | {right(bundled['accuracy'], None)} | | | | | | {products:.1f} M |"]


def draw(parts: dict[str, dict]) -> None:
    """Draw test accuracy against seconds, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for part, measured in parts.items():
        for number, curve in enumerate(measured["curves"]):
            seconds, accuracies = zip(*curve, strict=True)
            label = f"{part.strip('`')}: {measured['accuracy']:.2%}" if number == 0 else None
            axes.plot(seconds, 1 - np.array(accuracies), marker="o", markersize=3, color=COLORS[part], label=label)
    axes.set_yscale("log")
    ticks = [0.003, 0.004, 0.005, 0.01, 0.02, 0.04]
    axes.set_yticks(ticks, [f"{1 - tick:.1%}" for tick in ticks])
    axes.yaxis.minorticks_off()
    axes.set_ylim(0.05, 0.003)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("test digits read right")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Measure, print, save and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from 0 on (%(default)s)")
    parser.add_argument("--data", default="mnist", help="as in mnist_digits.py (%(default)s)")
    args = parser.parse_args()
    result = {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "date": datetime.date.today().isoformat(),
        "versions": md.versions(),
        "memory": {f"kept: {kept}": alone(measure_memory, args.data, kept) for kept in (True, False)},
        "augmentation, digits a second": measure_augmentation(md.load_data(args.data)),
    }
    runs: dict[str, list[dict]] = defaultdict(list)
    for seed in range(args.seeds):
        for part in PARTS:
            runs[part].append(alone(measure_one, part, args.data, seed))
        result["parts"] = {part: summarize(runs[part], runs[PEER]) for part in PARTS}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(result["parts"])
    print(*table(result, json.loads(BUNDLED.read_text(encoding="utf-8"))), sep="\n")


if __name__ == "__main__":
    main()
