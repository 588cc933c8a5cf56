"""The README against the program: every command in it parses, every flag has help and is told of."""

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import chain

import drawn
import nondigits
import pytest
import reading
import training
from conftest import ROOT

import mnist_digits as md

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [part for line in README.splitlines() for part in line.split("&&") if "python mnist_digits.py" in part]
COMMANDS = [command.strip(" `") for command in COMMANDS if command.startswith((" ", "python", "pip"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_readme_parses(command):
    words = shlex.split(re.sub(r" >?[<>] .*", "", command), comments=True)  # without what is the shell's
    arguments = words[words.index("mnist_digits.py") + 1 :]
    if "--help" not in arguments and "--version" not in arguments:
        md.parse_arguments(arguments)


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 4


def test_every_flag_has_help_and_stands_in_the_readme():
    command = [sys.executable, str(ROOT / "mnist_digits.py"), "--help"]
    told = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "1000"}).stdout
    flags = re.findall(r"^  (?:-h, )?(--[-a-z]+)(.*(?:\n {10}.*)?)$", told, flags=re.MULTILINE)
    assert len(flags) > 25
    for flag, described in flags:
        assert re.search(r"  \w", described), f"{flag} has no help"
        assert re.search(rf"`{flag}\b", README), flag


def test_the_python_in_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(code, {})
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if "samples" in line] == [
        "4",
        "2026",
        "cannot",
    ]


def test_every_test_named_in_the_readme_is_there():
    tests = (ROOT / "tests" / "test_trust.py").read_text(encoding="utf-8")
    for name in re.findall(r"`(test_\w+)`", README):
        assert f"def {name}(" in tests, name


def test_the_pictures_in_the_readme_are_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file(), path


def test_every_number_measured_stands_in_the_readme_as_it_was_measured():
    read, trained, bundled = (
        json.loads(path.read_text(encoding="utf-8")) for path in (reading.RESULTS, training.RESULTS, training.BUNDLED)
    )
    multi, own, none = ({row["part"]: row for row in read["accuracy"]}[part] for part in ("multi", "own", "nondigit"))
    several, refused = ([row["collected first"], row["collected later"]] for row in (multi, none))
    memory = {who: read["speed"][0][who]["peak_mb"] for who in ("ours", "peer")}
    rates = trained["augmentation, digits a second"]
    sentences = [
        f"{100 * multi['ours, of digits']:.1f} % are right",
        f"within {100 * own['ece']:.1f} %",
        "{} of the {} collected first are read right and {} of the {} collected later".format(*several[0], *several[1]),
        "{} of {} and {} of {} are refused".format(*refused[0], *refused[1]),
        f"stays at {memory['ours']} MB",
        f"grows to {memory['peer']} MB",
        f"{rates['ours, the same'] / rates['Keras']:.1f} times",
        f"calibration error {100 * bundled['ece']:.2f} %",
    ]
    kinds = json.loads(drawn.RESULTS.read_text(encoding="utf-8"))
    nothing = json.loads(nondigits.RESULTS.read_text(encoding="utf-8"))
    tables = reading.tables(read), training.table(trained, bundled), drawn.table(kinds), nondigits.table(nothing)
    for line in [*chain(*tables), *sentences]:
        assert line in README.replace("\n", " "), line
