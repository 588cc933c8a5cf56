"""The README against the program: every command in it parses, every flag has help and is told of."""

import re
import shlex

import pytest
from conftest import ROOT

import mnist_digits as md

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [part for line in README.splitlines() for part in line.split("&&") if "python mnist_digits.py" in part]
COMMANDS = [command.strip(" `") for command in COMMANDS if command.startswith((" ", "python", "pip"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_readme_parses(command):
    words = shlex.split(command, comments=True)
    arguments = words[words.index("mnist_digits.py") + 1 :]
    if "--help" not in arguments and "--version" not in arguments:
        md.parse_arguments(arguments)


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 4


def test_every_flag_has_help_and_stands_in_the_readme():
    for action in md.build_parser()._actions:
        assert action.help, action.dest
        for flag in action.option_strings:
            assert flag == "-h" or re.search(rf"`{flag}\b", README), flag


def test_the_pictures_in_the_readme_are_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file(), path
