#!/usr/bin/env python3
"""Measure how well and how fast mnist_digits.py trains, beside Keras's own MNIST example.

    python benchmarks/training.py                         what is compared, one after the other, once each
    python benchmarks/training.py --seeds 5               ours with mean and standard deviation over seeds 0 to 4
    python benchmarks/training.py --data mnist.npz        where MNIST cannot be downloaded

The default run and `--epochs 1` are those of mnist_digits.py. "Keras's example" is the recipe of mnist_convnet, at
keras.io/examples/vision/mnist_convnet: two convolutions, 15 epochs. "classic" is the network of many a first tutorial.
The test digits are read after each epoch while the clock stands; nothing is chosen by what they show. What is measured
is printed and saved in benchmarks/results/training.json and drawn in benchmarks/figures/training.png.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

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
PARTS = {"default": "cnn", "`--epochs 1`": "cnn", "Keras's example": None, "`--network classic`": "classic"}
COLORS = dict(zip(PARTS, ("#1f77b4", "#7fb2d9", "#c8401f", "#8a8a8a"), strict=True))


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
    recipe = md.RECIPES[PARTS[part]]
    if "--epochs 1" in part:
        recipe = recipe._replace(epochs=1)
    clock.start = time.perf_counter()
    parts = md.split_off(data, md.TRAINING_DEFAULTS["validation_split"])
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


def measure_part(part: str, data: md.Data, seeds: range) -> dict:
    """Train one part for each seed; return what was measured."""
    curves = []
    for seed in seeds:
        clock = Clock(data.x_test, data.y_test)
        network = train_ours(part, data, seed, clock) if PARTS[part] else train_peer(data, seed, clock)
        accuracy, seconds = md.test(network, data)[1]["accuracy"], clock.curve[-1][0]
        clock.curve[-1] = seconds, round(accuracy, 4)  # that of the network as it is saved, in float32
        curves.append(clock.curve)
        print(f"{part}, seed {seed}: {accuracy:.2%} after {seconds:.0f} s", flush=True)
    seconds, accuracies = np.array([curve[-1] for curve in curves]).T
    return {
        "seeds": list(seeds),
        "accuracy": round(float(accuracies.mean()), 5),
        "accuracy_sd": round(float(accuracies.std(ddof=1)), 5) if len(seeds) > 1 else None,
        "seconds": round(float(seconds.mean()), 1),
        "seconds_to": {f"{level:.1%}": seconds_to(curves, level) for level in LEVELS},
        "parameters": network.count_params(),
        "multiply_adds": count_products(network),
        "curves": curves,
    }


def measure_augmentation(data: md.Data) -> dict:
    """Count the digits a second that Keras's own generator turns and moves, and ours, in batches of 256."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    x, targets = data.x_train[:5120], md.ONE_HOT[data.y_train[:5120]]
    recipe = md.RECIPES["cnn"]._replace(batch_size=256)
    poses_alone = recipe._replace(untouched=0, worldly=False, others=0)
    ways = {
        "Keras": ImageDataGenerator(**md.POSES).flow(md.to_batch(x), targets, batch_size=256, seed=0),
        "ours, the same": md.make_batches(poses_alone, x, targets, 0),
        "ours, with bends, pens and others": md.make_batches(recipe, x, targets, 0),
    }
    rates = {}
    for way, batches in ways.items():
        start = time.perf_counter()
        for _ in range(len(batches)):
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
        cells = [part, len(of["seeds"]), right(of["accuracy"], of["accuracy_sd"]), f"{of['seconds']:.0f}"]
        cells += [result["seconds, of Keras's example"][part]]
        cells += [f"{seconds:.0f} s" if seconds else "not by all" for seconds in of["seconds_to"].values()]
        lines.append(f"| {' | '.join(map(str, cells))} | {of['multiply_adds'] / 1e6:.1f} M |")
    members, network = bundled["accuracy_of_members"], bundled["network"]
    mean = right(np.mean(members), np.std(members, ddof=1))
    products = count_products(md.build_network(md.RECIPES[network])) / 1e6
    long = f"`--network {network} --epochs {bundled['epochs']}`"
    lines.append(f"| {long} | {len(members)} | {mean} | | | | | | {products:.1f} M |")
    united = f"| bundled: these {len(members)} united | 1 | {right(bundled['accuracy'], None)} | | | | | |"
    return [*lines, f"{united} {len(members) * products:.1f} M |"]


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
    parser.add_argument("--seeds", type=int, default=1, help="seeds for the default run and --epochs 1 (1)")
    parser.add_argument("--peer-seeds", type=int, default=1, help="seeds for Keras's example and classic (1)")
    parser.add_argument("--data", default="mnist", help="as in mnist_digits.py (mnist)")
    args = parser.parse_args()
    bundled, data = json.loads(BUNDLED.read_text(encoding="utf-8")), md.load_data(args.data)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    result = {"machine": machine, "precision": md.pick_precision(), "versions": md.versions()}
    result["date"] = datetime.date.today().isoformat()
    result["augmentation, digits a second"] = measure_augmentation(data)
    seeds = {part: range(args.seeds if PARTS[part] == "cnn" else args.peer_seeds) for part in PARTS}
    parts = result["parts"] = {part: measure_part(part, data, seeds[part]) for part in PARTS}
    peer = parts["Keras's example"]["seconds"]
    result["seconds, of Keras's example"] = {part: round(parts[part]["seconds"] / peer, 2) for part in parts}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(parts)
    print(*table(result, bundled), sep="\n")


if __name__ == "__main__":
    main()
