"""Where output goes, through real pipes and real files: readers who go away, streams that are closed, full disks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

POCKETCLIP = f"{sys.executable} -m pocketclip"
PRINTING = ["help data mix", "--version", "list recipes", "data inspect scenes:3", "trian"]


def in_shell(line: str) -> subprocess.CompletedProcess[str]:
    """A line as typed, in which `pocketclip` is this one; its last exit code is that of any of its parts."""
    line = line.replace("pocketclip ", f"{POCKETCLIP} ", 1)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("words", PRINTING)
@pytest.mark.parametrize("pipe", ["| true", "2>&1 | true"])
def test_a_reader_who_goes_away_ends_it_without_a_word(words: str, pipe: str) -> None:
    done = in_shell(f"(sleep 0.1; pocketclip {words}) {pipe}")
    assert done.returncode in (0, 141, 2 if words == "trian" else 0)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    if words != "trian":
        assert [line for line in done.stderr.splitlines() if not line.startswith("reading images: ")] == []


@pytest.mark.parametrize("words", PRINTING)
def test_the_first_line_is_read_and_the_others_are_not_missed(words: str) -> None:
    done = in_shell(f"pocketclip {words} 2>&1 | head -1")
    assert done.returncode in (0, 141, 2 if words == "trian" else 0)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize("words", PRINTING)
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_missed_by_nobody(words: str, closed: str) -> None:
    done = in_shell(f"pocketclip {words} {closed}")
    assert done.returncode == (2 if words == "trian" else 0)
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this machine")
@pytest.mark.parametrize("words", PRINTING[:-1])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_named(words: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = in_shell(f"pocketclip {words} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: Cannot write the output: No space left on device."
    assert "Traceback" not in done.stderr
    assert in_shell(f"pocketclip {words} > /dev/full 2>&1").returncode == 1


def test_a_closed_stdout_is_not_taken_by_a_file(tmp_path: Path) -> None:
    """The table would be written into the picture, where both had the same number."""
    sheet = tmp_path / "sheet.png"
    assert in_shell(f"pocketclip data inspect scenes:3 --sheet {sheet} >&-").returncode == 0
    assert sheet.read_bytes().endswith(b"IEND\xaeB`\x82")


def on_a_terminal(words: list[str], columns: int) -> str:
    """What a command prints on a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "pocketclip", *words], stdin=other, stdout=other, stderr=other,
        env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(other)
    shown = b""
    try:
        while part := os.read(main, 65536):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(main)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


@pytest.mark.slow
def test_a_table_on_a_terminal_and_json_in_a_pipe_unless_the_other_is_asked_for() -> None:
    words = ["data", "inspect", "scenes:3"]
    assert json.loads(in_shell(f"pocketclip {' '.join(words)}").stdout)["num_images"] == 3
    assert "num images" in in_shell(f"pocketclip {' '.join(words)} --format table").stdout
    assert "num images" in on_a_terminal(words, 80)
    for asked in (["--json"], ["--format", "json"]):
        assert json.loads(on_a_terminal(["-q", *words, *asked], 80))["num_images"] == 3


@pytest.mark.parametrize("columns", [30, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(columns: int, tmp_path: Path) -> None:
    """With letters of two cells and of none, while bars are drawn and in what stays."""
    from rich.cells import cell_len

    from conftest import encode_picture

    for name in ("二匹の犬が雪の中で遊んでいる写真の長い名前", "cafe\u0301" * 30, "a b"):
        (tmp_path / f"{name}.jpg").write_bytes(b"" if name == "a b" else encode_picture(1))
        (tmp_path / f"{name}.txt").write_text("a caption")
    for words in (["data", "inspect", str(tmp_path)], ["data", "mix", "scenes:4", "--out", str(tmp_path / "out")]):
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(words, columns))
        lines = [line for line in re.split(r"[\r\n]+", shown) if not re.search(r"webdataset:|--without", line)]
        assert [line for line in lines if cell_len(line) > columns] == []


def test_numbers_of_a_narrow_table_stay_whole(tmp_path: Path) -> None:
    words = ["data", "mix", "scenes:30", "--out", str(tmp_path / "out")]
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(words, 30))
    for column in ("taken", "broken", "duplicates", "images", "captions"):
        assert f" {column} " in shown
