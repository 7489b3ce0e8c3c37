import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pocketclip.errors import UserError
from pocketclip.files import alone_in, cannot_write, did_you_mean, holds_only, no_such, resolve_inside, write_atomically


@pytest.mark.parametrize("content", ["grün 狗\n", b"\x00\xff\n"])
def test_a_file_holds_exactly_what_was_written(tmp_path: Path, content: str | bytes) -> None:
    write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == (content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "half \ud83d", "grün 狗", "a\nb\x1b"])
def test_a_name_in_json_is_utf8_and_read_back_as_it_was(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / "file", json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "file").read_bytes().decode()) == {"name": name}


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "one")
    write_atomically(tmp_path / "file", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "two"


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "text")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("step", ["fsync", "write"])
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_atomically(tmp_path / "file", "old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync" if step == "fsync" else "fdopen", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        write_atomically(tmp_path / "file", "new")
    monkeypatch.undo()
    assert str(tmp_path / "file") in str(caught.value)
    assert "--out" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory") as caught:
        write_atomically(tmp_path / "none" / "file", "text")
    assert str(tmp_path / "none" / "file") in str(caught.value)


def test_an_error_without_a_system_text_is_still_explained() -> None:
    assert "odd" in str(cannot_write(Path("x"), OSError("odd")))


@pytest.mark.parametrize("name", ["a.jpg", "b/a.jpg", "b/../a.jpg", "./a.jpg", "..a.jpg", "b/..a.jpg"])
def test_a_name_below_the_root_is_allowed(tmp_path: Path, name: str) -> None:
    found = resolve_inside(tmp_path, name, place="x")
    assert found == Path(os.path.normpath(tmp_path / name))


@pytest.mark.parametrize("name", ["../a.jpg", "b/../../a.jpg", "/etc/passwd", "../{root}2/a.jpg"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "images"
    name = name.format(root="images")  # a sibling whose name merely starts with the root's
    with pytest.raises(UserError, match="leads out of") as caught:
        resolve_inside(root, name, place="pairs.csv")
    message = str(caught.value)
    assert message.startswith("pairs.csv: ")
    assert name in message
    assert "images=DIR" in message


def test_an_absolute_name_below_the_root_is_allowed(tmp_path: Path) -> None:
    assert resolve_inside(tmp_path, str(tmp_path / "a.jpg"), place="x") == tmp_path / "a.jpg"


def test_a_relative_root_gives_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_inside(Path("images"), "a.jpg", place="x") == tmp_path / "images" / "a.jpg"


def test_a_linked_image_folder_counts_as_inside(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "near").symlink_to(tmp_path / "far")
    assert resolve_inside(tmp_path / "root", "near/a.jpg", place="x") == tmp_path / "root" / "near" / "a.jpg"


@pytest.mark.parametrize("name", ["", ".", "b/..", "a\0.jpg"])
def test_a_name_of_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"pairs\.csv: .* is not a file name"):
        resolve_inside(tmp_path, name, place="pairs.csv")


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("photo", "photos"),
        ("PHOTOS", "photos"),
        ("photos/dg.jpg", "photos/dog.jpg"),
        ("fotos/dog.jpeg", "photos/dog.jpg"),
        ("photos/../phtos", "photos/../photos"),
        ("nowhere", None),
        ("photos/dog.jpg/x", None),
        ("", None),
        ("a\0b", None),
    ],
)
def test_a_misspelt_place_is_told_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, near: str | None
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dog.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    hint = f" Did you mean '{near}'?" if near else ""
    assert str(no_such("file", place)) == f"{place}: no such file.{hint}"
    if near:
        assert did_you_mean(tmp_path / place) == f" Did you mean '{tmp_path / near}'?"
        assert (tmp_path / near).exists()


def test_what_killed_writers_left_is_nothing(tmp_path: Path) -> None:
    assert holds_only(tmp_path)
    handle, left = tempfile.mkstemp(dir=tmp_path, prefix=".recipe.yaml.")
    os.close(handle)
    assert holds_only(tmp_path), left
    (tmp_path / "recipe.yaml").write_text("")
    assert holds_only(tmp_path, "recipe.yaml")
    assert not holds_only(tmp_path)
    (tmp_path / "row").mkdir()
    assert not holds_only(tmp_path, "recipe.yaml")
    assert holds_only(tmp_path, "recipe.yaml", below=True)
    (tmp_path / "row" / ".bashrc").write_text("")
    assert not holds_only(tmp_path, "recipe.yaml", below=True)


def test_two_processes_are_not_at_work_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with alone_in(folder):
        told = r"out: another process is at work there; wait until it is done, or choose another --ids\."
        with pytest.raises(UserError, match=told), alone_in(folder, elsewhere="--ids"):
            pytest.fail("is not alone")
        with alone_in(tmp_path / "deep" / "other"):  # what the message says
            pass
    assert not folder.exists()  # nothing was put there
    with alone_in(folder):
        (folder / "work").touch()
    with alone_in(folder):
        assert (folder / "work").exists()
    with alone_in(folder / "work"):  # no folder: the work itself says so
        assert (folder / "work").is_file()


def test_a_killed_process_keeps_nobody_out(tmp_path: Path) -> None:
    lines = f"from pathlib import Path\nfrom pocketclip.files import alone_in\nwith alone_in(Path({str(tmp_path)!r})):"
    code = f"{lines}\n    print('in', flush=True)\n    import time\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UserError, match="another process is at work"), alone_in(tmp_path):
            pytest.fail("is not alone")
        process.kill()
        process.wait()
        with alone_in(tmp_path):
            pass
