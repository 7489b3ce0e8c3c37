"""Selections: which captions a written sample has, and the file that holds them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketclip.curate.selection import Selection, open_writing
from pocketclip.data import open_source
from pocketclip.data.source import Source


@pytest.fixture
def source(make_folder: Callable[..., Path]) -> Source:
    """Eight pictures with two captions each."""
    return open_source(f"folder:{make_folder(8, 2)}")


def select(indices: list[int], counts: list[int], captions: list[bool], joined: list[list[int]]) -> Selection:
    """Of one source; `joined` has the numbers of the duplicates of each sample."""
    return Selection(
        sources=np.zeros(len(indices), np.int64),
        indices=np.array(indices),
        counts=np.array(counts),
        captions=np.array(captions, bool),
        joined_counts=np.array([len(group) for group in joined]),
        joined=np.array([[0, index] for group in joined for index in group], np.int64).reshape(-1, 2),
    )


KEPT = select([1, 4, 6], [2, 2, 2], [True, False, False, True, True, True], [[], [], []])


def test_each_sample_keeps_its_own_captions_that_stay(source: Source) -> None:
    wanted = [source.captions(1)[:1], source.captions(4)[1:], source.captions(6)]
    samples = [KEPT.sample(number, [source]) for number in range(3)]
    assert [sample.captions for sample in samples] == wanted
    assert [sample.key for sample in samples] == ["001", "004", "006"]
    assert [sample.image for sample in samples] == [source[index].image for index in (1, 4, 6)]


def test_captions_that_were_not_judged_stay_and_those_of_duplicates_follow(source: Source) -> None:
    selection = select([2, 3], [0, 1], [False], [[], [5, 7]])
    assert selection.sample(0, [source]).captions == source.captions(2)
    one = select([3], [2], [False, True], [[5, 7]])
    assert one.sample(0, [source]).captions == (source.captions(3)[1], *source.captions(5), *source.captions(7))
    assert (selection.joined_to(0), selection.joined_to(1)) == ([], [(0, 5), (0, 7)])


def test_a_file_gives_the_selection_back_and_marks_the_shards(source: Source, tmp_path: Path) -> None:
    others = [KEPT, select([1, 4, 6], [2, 2, 2], [True] * 6, [[], [], []]), select([1, 4], [0, 0], [], [[], []])]
    marks = set()
    for number, selection in enumerate(others):
        file = tmp_path / f"{number}.npz"
        selection.save(file)
        data = file.read_bytes()
        selection.save(file)
        assert file.read_bytes() == data
        loaded = Selection.load(file)
        for name in Selection.__dataclass_fields__:
            assert np.array_equal(getattr(loaded, name), getattr(selection, name)), name
        marks.add(open_writing([source], file, tmp_path / "data", 2, {}, None).made_from["selection"])
    assert len(marks) == 3
