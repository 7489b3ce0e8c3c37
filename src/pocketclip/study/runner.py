"""Carries out a study: every row with every seed, an ordinary run each, then the table."""

import json
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import yaml

from pocketclip.errors import UserError
from pocketclip.files import holds_only, write_atomically
from pocketclip.run.setup import START
from pocketclip.stages.watch import Watch
from pocketclip.study.comparison import StudyResults, compare
from pocketclip.study.grid import Study, samples_of_rows
from pocketclip.study.jobs import carry_out_at_once
from pocketclip.study.page import write_study_page
from pocketclip.study.record import RECORD, SETTINGS, StudyRecord
from pocketclip.study.runs import PlannedRun, carry_out, read_finished
from pocketclip.study.table import study_markdown


def run_study(
    study: Study,
    folder: Path,
    *,
    watch: Watch,
    resume: bool = False,
    device: str = "auto",
    dollars_per_hour: float | None = None,
    num_jobs: int = 1,
) -> StudyRecord:
    """Train what is not trained yet, in `folder/ROW/seed-N`, and write the table.

    A run that fails is noted and the others go on. The table is written after every run, so that a study that is
    stopped has one of what is finished; with `resume` it leaves finished runs alone and goes on with those that were
    begun. Each of `num_jobs` runs at a time has a process of its own with its share of the cores; `dollars_per_hour`
    of this machine add the price of a run.

    Raises:
        UserError: anything the user can fix before the first run, or no run came to an end.
        Interrupted: Ctrl-C or SIGTERM; `resume` goes on.
    """
    samples = samples_of_rows(study, watch)
    _prepare(study, folder, watch, resume=resume)
    results = StudyResults(study, samples, dollars_per_hour, num_jobs, {row.name: [] for row in study.rows})
    planned = []
    for seed, row in product(study.config.seeds, study.rows):  # stopped early, a study has something of all rows
        place = folder / row.slug / f"seed-{seed}"
        run = PlannedRun(row.name, seed, row.with_seed(seed), place, device, dollars_per_hour)
        if run.is_finished:
            run.check_is_the_same()
            _add(results, run)
        else:
            planned.append(run)
    if done := len(study.rows) * len(study.config.seeds) - len(planned):
        watch.note(f"{done} of {done + len(planned)} runs were finished before")
    at_once = num_jobs > 1 and len(planned) > 1
    ended = carry_out_at_once(planned, num_jobs) if at_once else _one_by_one(planned, watch)
    for number, (run, problem) in enumerate(ended, start=1):
        count = f"{number} of {len(planned)}"
        if problem is not None:
            results.failed[run.name] = problem
            watch.note(f"failed, {count}: {run.name}: {problem}")
            continue
        _add(results, run)
        watch.note(f"finished, {count}: {run.name}")
        _write(results, folder)
    return _write(results, folder)


def _one_by_one(planned: Sequence[PlannedRun], watch: Watch) -> Iterator[tuple[PlannedRun, str | None]]:
    for number, run in enumerate(planned, start=1):
        watch.note(f"run {number} of {len(planned)}: {run.name}")
        yield run, carry_out(run, watch)


def _prepare(study: Study, folder: Path, watch: Watch, *, resume: bool) -> None:
    """Make the folder, unless it holds a study already or something else, and put the study there.

    A study none of whose runs came to a step is begun again.
    """
    mark = folder / SETTINGS
    if mark.is_file() and not resume and holds_only(folder, SETTINGS, *START, below=True):
        watch.note(f"{folder}: holds a study that was stopped before its first step; it is begun again.")
        shutil.rmtree(folder)
    if mark.is_file() and not resume:
        raise UserError(f"{folder}: holds a study already. Go on with --resume, choose another --out, or delete it.")
    if not mark.is_file() and folder.is_dir() and not holds_only(folder):
        raise UserError(f"{folder}: is not empty and holds no study; choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --out.") from error
    settings = yaml.safe_dump(study.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    changes = "".join(f"#   --set {change}\n" for change in study.changes)
    write_atomically(mark, f"# {study.name}\n{changes}{settings}")


def _add(results: StudyResults, run: PlannedRun) -> None:
    """Add a finished run, in the order of the seeds."""
    runs = results.finished[run.row]
    runs.append(read_finished(run.folder, run.seed))
    runs.sort(key=lambda run: results.study.config.seeds.index(run.seed))


def _write(results: StudyResults, folder: Path) -> StudyRecord:
    """The record of what is finished, on disk too; see `compare`."""
    record = compare(results)
    write_atomically(folder / RECORD, json.dumps(record.to_json(), indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / "study.md", study_markdown(record))
    if find_spec("jinja2") is not None:  # the table is there without it
        write_study_page(folder)
    return record
