"""WinoGAViL as it comes unpacked, and with what may be wrong in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.sources.winogavil import AssociationFiles
from pocketclip.errors import UserError

NAMES = ("eagle", "tea party", "ash", "wolf", "moon")
ROWS: list[tuple[Any, str, Any]] = [
    (["eagle", "tea party", "ash"], "bald", ["eagle", "ash"]),
    (["eagle", "tea party", "ash"], "plush", ["tea party"]),
    (["wolf", "moon"], "howl", ["moon", "wolf"]),
]


def write(root: Path, rows: Sequence[tuple[Any, str, Any]] = ROWS, names: Sequence[str] = NAMES) -> str:
    """The set as huggingface.co/datasets/nlphuji/winogavil has it, with more columns than are asked for."""
    (root / "images").mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (root / "images" / f"{name}.jpg").write_bytes(encode_picture(number))
    header = ",candidates,cue,associations,score_fool_the_ai,num_associations,num_candidates,ID"
    lines = [header]
    for number, (candidates, cue, right) in enumerate(rows):
        cells = [value if isinstance(value, str) else json.dumps(value) for value in (candidates, cue, right)]
        quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        lines.append(",".join([str(number), *quoted, "67", str(len(right)), str(len(candidates)), str(number)]))
    (root / "w.csv").write_text("\n".join(lines) + "\n")
    return f"winogavil:{root / 'w.csv'},{root / 'images'}"


def associations(source: AssociationFiles) -> list[tuple[str, list[str], list[str]]]:
    """Cue, candidates and right ones as the source has them."""
    assert source.asked is not None
    found, first = [], 0
    for cue, size in zip(source.asked.cues, source.asked.sizes.tolist(), strict=True):
        part = slice(first, first + size)
        names = [source.paths[sample].stem for sample in source.asked.samples[part].tolist()]
        right = [name for name, own in zip(names, source.asked.right[part].tolist(), strict=True) if own]
        found.append((cue, names, right))
        first += size
    return found


def opened(spec: str) -> AssociationFiles:
    source = open_source(spec)
    assert isinstance(source, AssociationFiles)
    return source


def test_a_word_has_its_candidates_and_which_of_them_are_right(tmp_path: Path) -> None:
    source = opened(write(tmp_path))
    wanted = [(cue, candidates, [name for name in candidates if name in right]) for candidates, cue, right in ROWS]
    assert associations(source) == wanted
    assert len(source) == 5  # each picture once
    assert source.gives == {"associations"}
    assert source[0].captions == ()
    assert not source.left_out


def test_json_lines_are_read_too_and_the_kind_is_told_by_the_columns(tmp_path: Path) -> None:
    first = associations(opened(write(tmp_path)))
    lines = [json.dumps({"candidates": c, "cue": cue, "associations": right}) for c, cue, right in ROWS]
    (tmp_path / "w.jsonl").write_text("\n".join(lines))
    assert associations(opened(f"winogavil:{tmp_path / 'w.jsonl'},{tmp_path / 'images'}")) == first
    for name in ("w.csv", "w.jsonl"):
        assert associations(opened(f"{tmp_path / name},{tmp_path / 'images'}")) == first
        with pytest.raises(UserError, match=rf"without the pictures; name their folder, too: winogavil:.*{name}"):
            open_source(str(tmp_path / name))


def test_another_answer_gives_another_fingerprint(tmp_path: Path) -> None:
    before = opened(write(tmp_path)).fingerprint()
    changed = [(ROWS[0][0], "bald", ["eagle"]), *ROWS[1:]]
    assert opened(write(tmp_path, changed)).fingerprint() != before


def test_an_association_that_names_a_missing_picture_is_left_out_and_told(tmp_path: Path) -> None:
    rows = [*ROWS, (["wolf", "bat"], "wing", ["bat"]), (["wolf", "moon"], "night", ["moon", "star"])]
    source = opened(write(tmp_path, rows))
    assert [cue for cue, _, _ in associations(source)] == ["bald", "plush", "howl"]
    gone, stray = map(str, source.left_out)
    assert gone == f"1 associations left out that name a picture that is not in {tmp_path / 'images'} " + (
        f"({tmp_path / 'w.csv'}: line 5: 'bat')"
    )
    assert stray == f"1 associations left out that name none of their candidates ({tmp_path / 'w.csv'}: line 6: 'star')"


def test_a_picture_that_stands_twice_is_two_candidates(tmp_path: Path) -> None:
    source = opened(write(tmp_path, [(["wolf", "moon", "wolf"], "howl", ["wolf"])]))
    assert source.asked is not None
    assert source.asked.right.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("no list", "bald", ["eagle"]), r"line 2: candidates should be a list of names, as in .*\(got 'no list'\)"),
        ((["eagle", "ash"], "bald", []), r"line 2: associations should be a list of names"),
        ((["eagle", 3], "bald", ["eagle"]), r"line 2: candidates should be a list of names"),
        ((["eagle"], "bald", ["eagle"]), r"line 2: needs a cue and two candidates or more"),
        ((["eagle", "ash"], " ", ["eagle"]), r"line 2: needs a cue and two candidates or more"),
        (
            (["eagle", "ash"], "bald", ["moon"]),
            r"no association can be asked; 1 .* none of their candidates .*: 'moon'",
        ),
        ((["bat", "cat"], "bald", ["cat"]), r"none of the first 2 pictures is in .*Name the folder that they are in"),
    ],
)
def test_what_is_wrong_in_the_table_is_one_clear_line(tmp_path: Path, row: tuple[Any, str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        open_source(write(tmp_path, [row]))
    assert "\n" not in str(error.value)


def test_a_table_without_the_columns_or_rows_is_named(tmp_path: Path) -> None:
    spec = write(tmp_path)
    (tmp_path / "w.csv").write_text("cue,candidates\nbald,x\n")
    with pytest.raises(UserError, match=r"line 2: no column associations; a row of WinoGAViL has candidates"):
        open_source(spec)
    (tmp_path / "w.csv").write_text("cue,candidates,associations\n")
    with pytest.raises(UserError, match="no associations here"):
        open_source(spec)
