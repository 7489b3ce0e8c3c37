"""A terminal sees that a model is loaded; a pipe and a file do not."""

import io
import sys

import pytest

from pocketclip.cli.loading import loading


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_and_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with loading("runs/mine"):
        assert screen.getvalue() == "loading runs/mine…"
    assert screen.getvalue().endswith("\r\x1b[K")


def test_an_error_leaves_it_clean_too(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with pytest.raises(ValueError, match="no"), loading("\x1b[31mred" + "x" * 100):
        raise ValueError("no")
    assert r"\x1b[31mred" in screen.getvalue()
    assert len(screen.getvalue()) < 80
    assert screen.getvalue().endswith("\r\x1b[K")


def test_a_pipe_sees_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with loading("runs/mine"):
        pass
    assert capfd.readouterr() == ("", "")
