"""Carries out a study: every row with every seed, an ordinary run each, then the table."""

import shutil
import time
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import fmean

import yaml

from pocketclip.errors import Interrupted
from pocketclip.files import holds_only, write_atomically
from pocketclip.run.setup import START
from pocketclip.stages.watch import Watch
from pocketclip.study.cell_recipes import Row
from pocketclip.study.claims import FOLDER, Claims
from pocketclip.study.comparison import StudyResults, compare
from pocketclip.study.grid import Study
from pocketclip.study.halving import Rung, decide
from pocketclip.study.jobs import CarryOut, Workers, open_workers
from pocketclip.study.latency import Latencies
from pocketclip.study.page import write_study_page
from pocketclip.study.record import SETTINGS, StudyRecord, make_folder
from pocketclip.study.runs import FinishedRun, PlannedRun, carry_out, read_finished
from pocketclip.study.samples import with_samples
from pocketclip.study.table import MOST_NAMED, study_markdown
from pocketclip.study.work import carry_out_all, try_failed_again

QUICK_SECONDS, WRITING_SHARE = 0.5, 20
"""Tables that take longer to write are written again only when so many times their seconds are over."""


def run_study(
    study: Study,
    folder: Path,
    *,
    watch: Watch,
    resume: bool = False,
    device: str = "auto",
    dollars_per_hour: float | None = None,
    num_jobs: int = 1,
    carry_out: CarryOut = carry_out,
) -> StudyRecord:
    """Train what is not trained yet, in `folder/ROW/seed-N`, and write the table.

    A run that fails is noted and the others go on. The table is written as runs end, so that a study that is stopped
    has one of what is finished; with `resume` it leaves finished runs alone and goes on with those that were begun.
    Several processes, on one machine or on many that share the folder, may do so at once: each takes what no other
    works on, and all end with the whole table. Each of `num_jobs` runs at a time has a process of its own with its
    share of the cores; `dollars_per_hour` of this machine add the price of a run. `carry_out` takes the place of the
    training itself, of one run at a time. When all runs are over, one process measures the latency of each model.

    Raises:
        UserError: anything the user can fix before the first run, or no run came to an end.
        Interrupted: Ctrl-C or SIGTERM; `resume` goes on.
    """
    study, samples = with_samples(study, watch)
    _prepare(study, folder, watch, resume=resume)
    finished: dict[str, list[FinishedRun]] = {row.name: [] for row in study.rows}
    latencies = Latencies(folder, device, wanted=study.config.latency)
    results = StudyResults(study, samples, dollars_per_hour, num_jobs, finished, latencies)
    progress = _Progress(results, folder, Claims(folder), watch)
    with open_workers(num_jobs, watch, carry_out) as workers:
        try:
            going = list(study.rows)
            for rung in [*(study.config.halving.waits() if study.config.halving else []), None]:
                runs = [
                    PlannedRun(row.name, seed, row.with_seed(seed), folder / row.slug / f"seed-{seed}", device,
                               dollars_per_hour, rung)
                    for seed, row in product(study.config.seeds, going)  # stopped early, it has something of all rows
                ]  # fmt: skip
                planned = [run for run in runs if run.name not in results.failed]
                progress.carry_out(planned, workers)
                if rung is not None:
                    going = progress.climb(rung, planned, going)
            latencies.measure(study.rows, finished, progress.claims, watch)
        except (Interrupted, KeyboardInterrupt):
            progress.write_what_is_there()
            raise
    return progress.write()


class _Progress:
    """Keeps the results of runs as they end, and the table with them."""

    def __init__(self, results: StudyResults, folder: Path, claims: Claims, watch: Watch) -> None:
        self.results, self.folder, self.claims, self.watch = results, folder, claims, watch
        self._next_write = 0.0

    def carry_out(self, planned: Sequence[PlannedRun], workers: Workers) -> None:
        """Carry out what has not come so far, or let others do it."""
        left = [run for run in planned if not self._was_done(run)]
        if (done := len(planned) - len(left)) and (not self.results.study.config.halving or left):
            self.watch.note(f"{done} of {len(planned)} runs were finished before")
        if given_up := try_failed_again(left, self.claims):
            rest = f" and {len(given_up) - MOST_NAMED:,} more" if len(given_up) > MOST_NAMED else ""
            shown = "; ".join(given_up[:MOST_NAMED])
            self.watch.note(f"not tried again, since they diverged: {shown}{rest}; delete a folder to do so")
        for number, (run, problem) in enumerate(carry_out_all(left, self.claims, workers, self.watch), start=1):
            count = f"{number} of {len(left)}"
            if problem is not None:
                self.results.failed[run.name] = problem
                self.watch.note(f"failed, {count}: {run.name}: {problem}")
                continue
            if run.is_finished and not self.results.has(run.row, run.seed):
                self.results.add(run.row, read_finished(run.folder, run.seed))
            self.watch.note(f"finished, {count}: {run.name}" if run.rung is None else f"waits, {count}: {run.name}")
            if run.is_finished and time.monotonic() >= self._next_write:
                self.write()

    def climb(self, rung: Rung, planned: Sequence[PlannedRun], going: Sequence[Row]) -> list[Row]:
        """The rows that go on from a rung."""
        halving = self.results.study.config.halving
        assert halving is not None
        assert halving.metric is not None  # named when the study was loaded
        scores: dict[str, list[float]] = {}
        for run in planned:
            if run.name not in self.results.failed and (score := run.score(halving.metric)) is not None:
                scores.setdefault(run.folder.parent.name, []).append(score)
        means = {row: fmean(each) for row, each in scores.items()}
        order = [row.slug for row in going]
        ended = decide(self.folder, rung, means, keep=halving.keep, metric=halving.metric, order=order)
        seeds = self.results.study.config.seeds
        for row in going:  # one that stopped by itself before the rung has come to its end
            if row.slug in ended and len(self.results.finished[row.name]) < len(seeds):
                self.results.dropped[row.name] = ended[row.slug]
        lost = {row.slug for row in going if row.slug not in means}
        left = [row for row in going if row.slug not in ended and row.slug not in lost]
        self.watch.note(f"rung {rung.number + 1}: {len(left)} of {len(going)} go on, by {halving.metric}")
        return left

    def write(self) -> StudyRecord:
        """The record of what is finished, on disk too; see `compare`."""
        started = time.monotonic()
        record = compare(self.results)
        record.write(self.folder)
        write_atomically(self.folder / "study.md", study_markdown(record))
        if find_spec("jinja2") is not None:  # the table is there without it
            write_study_page(self.folder)
        ended = time.monotonic()
        self._next_write = ended + WRITING_SHARE * (ended - started) if ended - started > QUICK_SECONDS else 0.0
        return record

    def write_what_is_there(self) -> None:
        """The same for a study that is stopped, where anything is finished."""
        if any(self.results.finished.values()):
            self.write()

    def _was_done(self, run: PlannedRun) -> bool:
        if run.is_finished and not self.results.has(run.row, run.seed):
            finished = read_finished(run.folder, run.seed)
            run.check_is_the_same(finished)
            self.results.add(run.row, finished)
        return run.is_done


def _prepare(study: Study, folder: Path, watch: Watch, *, resume: bool) -> None:
    """Make the folder with the study in it, as `make_folder` does.

    A study none of whose runs came to a step is begun again.
    """
    if (folder / SETTINGS).is_file() and not resume and _came_to_no_step(folder):
        watch.note(f"{folder}: holds a study that was stopped before its first step; it is begun again.")
        shutil.rmtree(folder)
    left = "".join(f"#   left out: {cell.name}: {cell.reason}\n" for cell in study.left)
    settings = yaml.safe_dump(study.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    changes = "".join(f"#   --set {change}\n" for change in study.changes)
    make_folder(folder, f"# {study.name}\n{changes}{left}{settings}", towers=False, goes_on=resume)
    if study.left:
        watch.note(f"{len(study.left)} of {len(study.left) + len(study.rows)} cells are left out; the record says why")


def _came_to_no_step(folder: Path) -> bool:
    """Whether nothing would be lost, and nobody is at work."""
    claims = [path.name for path in (folder / FOLDER).glob("*")]
    return holds_only(folder, SETTINGS, *START, *claims, below=True) and not Claims(folder).others_at_work()
