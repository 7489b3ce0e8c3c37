"""What a study's table says of its numbers."""

from pathlib import Path

import pytest

from example_pages import make_study, row
from pocketclip.study.record import RowResult, read_study
from pocketclip.study.table import listed_failures, study_notes


def seen(name: str, samples: int, dropped: str | None = None) -> RowResult:
    return row(name, 0.2).model_copy(update={"samples_seen": samples, "dropped": dropped})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((seen("a", 64), seen("b", 64)), ["Every row sees 64 samples."]),
        ((seen("a", 64), seen("b", 32)), ["Rows see different numbers of samples: 'a' 64, 'b' 32."]),
        ((seen("a", 64), seen("b", 0), seen("c", 8, "diverged")), ["Every row sees 64 samples."]),
        ((seen("a", 64, "stopped early"), seen("b", 0, "diverged")), []),
        (tuple(seen(f"r{n}", 8 * n) for n in range(25)), ["Rows see 8 to 192 samples."]),
    ],
    ids=["alike", "different", "not known yet", "all dropped", "many"],
)
def test_samples_are_told_of_rows_that_see_any(rows: tuple[RowResult, ...], said: list[str], tmp_path: Path) -> None:
    notes = study_notes(read_study(make_study(tmp_path, *rows)))
    assert [note for note in notes if note.startswith(("Every row sees", "Rows see"))] == said


def test_of_many_failures_the_first_are_listed(tmp_path: Path) -> None:
    failed = {f"r, seed {n}": "the disk is full" for n in range(1030)}
    lines = listed_failures(read_study(make_study(tmp_path, row("r", 0.2), failed=failed)))
    assert (len(lines), lines[0]) == (25, "r, seed 0: the disk is full")
    assert lines[-1] == "1,006 more runs, which the record names."
