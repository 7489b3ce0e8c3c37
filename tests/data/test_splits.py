"""Holding out: the shares, and that no picture is on both sides."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketclip.data import Source, open_source
from pocketclip.data.identity import picture_ids
from pocketclip.data.splits import held_out_numbers, hold_out, picture_groups
from pocketclip.errors import UserError


def photo(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 72), Image.Resampling.BICUBIC)


def write(path: Path, image: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    output = io.BytesIO()
    image.save(output, "JPEG", **options)
    path.write_bytes(output.getvalue())


def opened(folder: Path) -> Source:
    return open_source({"kind": "folder", "dir": folder})


def places(source: Source) -> set[str]:
    return {Path(source.place(number)).stem for number in range(len(source))}


def copied(path: Path, number: int) -> None:
    write(path, photo(number))


def saved_smaller(path: Path, number: int) -> None:
    write(path, photo(number).resize((48, 36)), quality=60)


@pytest.mark.parametrize("copy", [copied, saved_smaller])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_copies_stay_together(tmp_path: Path, copy: Callable[[Path, int], None], share: float) -> None:
    for number in range(20):
        write(tmp_path / "one" / f"{number:02d}.jpg", photo(number))
        copy(tmp_path / "two" / f"{number:02d}.jpg", number)
    rest, held = hold_out(opened(tmp_path), share)
    assert places(rest) | places(held) == {f"{number:02d}" for number in range(20)}
    assert not places(rest) & places(held)
    assert len(held) == 2 * len(places(held)), "both copies"
    assert abs(len(held) - min(20, 40 * share)) <= 2


def test_other_pictures_are_groups_of_their_own(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / f"{number:02d}.jpg", photo(number))
    assert picture_groups(opened(tmp_path)).tolist() == list(range(30))


def test_pictures_that_all_look_alike_are_not_taken_for_one(tmp_path: Path) -> None:
    """Scans of blank forms: their hashes are equal, their bytes are not."""
    for number in range(20):
        image = Image.new("RGB", (64, 64), "white")
        image.putpixel((number, number), (250, 250, 250))
        image.save(tmp_path / f"{number:02d}.png")
    assert picture_groups(opened(tmp_path)).tolist() == list(range(20))


def test_drawings_are_compared_by_what_is_drawn() -> None:
    assert picture_groups(open_source("scenes:300")).tolist() == list(range(300))


def test_a_twin_on_both_sides_of_a_chain_is_one_group(tmp_path: Path) -> None:
    for number, quality in enumerate((95, 60, 40)):
        write(tmp_path / f"same-{number}.jpg", photo(0), quality=quality)
    for number in range(40):
        write(tmp_path / f"{number:02d}.jpg", photo(100 + number))
    groups = picture_groups(opened(tmp_path))
    assert len(set(groups[-3:].tolist())) == 1
    assert len(set(groups.tolist())) == 41


def test_unreadable_pictures_are_groups_of_their_own(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path / f"{number}.jpg", photo(number))
    for number in (1, 4):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    source = opened(tmp_path)
    assert picture_groups(source)[0] == 0
    rest, held = hold_out(source, 0.3)
    assert len(rest) + len(held) == 6


def test_groups_of_one_are_held_out_as_ever() -> None:
    """The numbers that runs before had: a permutation of the samples, of which the first ones are held out."""
    rest, held = held_out_numbers("x", np.arange(10), 0.3, "things", "more")
    assert held.tolist() == sorted(np.random.default_rng(0).permutation(10)[:3].tolist())
    assert sorted([*rest, *held]) == list(range(10))


def test_one_group_at_least_stays() -> None:
    rest, held = held_out_numbers("x", np.array([0, 1, 2, 3, 3, 3, 3, 3, 3]), 0.5, "things", "more")
    assert len(rest) >= 1
    assert len(held) >= 1


@pytest.mark.parametrize("groups", [[0, 1, 2], [0] * 50, [0, 0, 1, 1, 2, 2]])
def test_fewer_than_four_different_ones_are_too_few(groups: list[int]) -> None:
    with pytest.raises(UserError, match=r"are too few to hold some out; give data\.val a source"):
        held_out_numbers("x", np.array(groups), 0.5, "pictures", "data.val a source")


def test_the_ids_of_both_sides_do_not_meet(tmp_path: Path) -> None:
    for number in range(12):
        for copy in range(1 + number % 3):
            write(tmp_path / f"{number:02d}-{copy}.jpg", photo(number))
    rest, held = hold_out(opened(tmp_path), 0.25)
    assert not np.isin(picture_ids(rest), picture_ids(held)).any()
