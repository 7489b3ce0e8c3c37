"""Running the command in this process, which saves importing torch for every call."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from pocketclip.cli.main import main
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Source, SourceSettings


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def pocketclip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """A function that runs `pocketclip ARGUMENTS`."""

    def run(*arguments: object) -> Ended:
        words: Sequence[str] = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["pocketclip", *words])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def leave_out(monkeypatch: pytest.MonkeyPatch) -> Callable[[LeftOut], None]:
    """A function after which every source says that it left something out."""
    really_open = SourceSettings.open

    def say(left: LeftOut) -> None:
        def opening(settings: SourceSettings) -> Source:
            source = really_open(settings)
            object.__setattr__(source, "left_out", (left,))
            return source

        monkeypatch.setattr(SourceSettings, "open", opening)

    return say
