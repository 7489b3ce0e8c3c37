"""Help fits a terminal of eighty columns, whole, and says the same of the same thing in every command."""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from pocketclip.cli.reference import command_names

Run = Callable[..., Any]
COMMANDS = ["", "data", "demo", *command_names()]


def words_of(command: str) -> list[str]:
    return [*command.split(), "--help"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_eighty_columns_and_is_not_cut(
    pocketclip: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = pocketclip(*words_of(command)).out
    assert [line for line in told.splitlines() if len(line) > 80] == []
    cut = [line for line in told.splitlines() if re.search(r"(?<![\]A-Z])(\.\.\.|…)$", line)]
    assert cut == [], "only ARGUMENT... may end so, which may be repeated"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet_and_verbose(pocketclip: Run, command: str) -> None:
    told = pocketclip(*words_of(command)).out
    assert "-q, --quiet" in told
    assert "-v, --verbose" in told
    assert ("--json" in told) == ("--format table|json" in told) or command == ""


def test_an_option_takes_the_same_in_every_command(pocketclip: Run) -> None:
    taken: dict[str, set[str]] = defaultdict(set)
    for command in command_names():
        for line in pocketclip(*words_of(command)).out.splitlines():
            if found := re.match(r"  (?:-\w, )?(--[\w-]+)(?: (\S+|<[^>]+>))?(?:  |$)", line):
                taken[found[1]].add(found[2] or "")
    assert {option: kinds for option, kinds in taken.items() if len(kinds) > 1} == {}
    assert not {"--hourly-dollars", "--dollars", "--cost", "--output", "--batch"} & set(taken)


def test_the_rule_of_formats_is_in_the_first_help(pocketclip: Run) -> None:
    told = " ".join(pocketclip("--help").out.split())
    assert "as a table on a terminal, as lines of JSON into a pipe or a file" in told
