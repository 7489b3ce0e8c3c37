"""Carries out a study: every row with every seed, an ordinary run each, then the table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pocketclip.errors import UserError
from pocketclip.files import write_atomically
from pocketclip.stages.watch import Watch
from pocketclip.study.comparison import compare
from pocketclip.study.grid import Study, runs_of, samples_of_rows
from pocketclip.study.jobs import carry_out_at_once
from pocketclip.study.record import StudyRecord
from pocketclip.study.runs import FinishedRun, PlannedRun, carry_out, read_finished
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
    stopped has one of what is finished.

    Args:
        study: what to do.
        folder: new or empty, or with `resume` that of the same study.
        watch: told of all that goes on.
        resume: leave finished runs alone and go on with those that were begun.
        device: `cpu`, `cuda` or `auto`.
        dollars_per_hour: of this machine; adds the price of a run.
        num_jobs: runs at a time, each in a process of its own with its share of the cores.

    Raises:
        UserError: anything the user can fix before the first run, or no run came to an end.
        Interrupted: Ctrl-C or SIGTERM; `resume` goes on.
    """
    samples = samples_of_rows(study)
    _prepare(study, folder, resume=resume)
    table = _Table(study, folder, samples, dollars_per_hour, num_jobs, {row.name: [] for row in study.rows})
    planned = []
    for row, seed in runs_of(study):
        place = folder / row.slug / f"seed-{seed}"
        run = PlannedRun(row.name, seed, row.with_seed(seed), place, device, dollars_per_hour)
        if run.is_finished:
            run.check_is_the_same()
            table.finished(run)
            continue
        planned.append(run)
    if done := len(study.rows) * len(study.config.seeds) - len(planned):
        watch.note(f"{done} of {done + len(planned)} runs were finished before")
    if num_jobs > 1 and len(planned) > 1:
        for number, (run, problem) in enumerate(carry_out_at_once(planned, num_jobs), start=1):
            table.ended(run, problem, watch, f"{number} of {len(planned)}")
    else:
        for number, run in enumerate(planned, start=1):
            watch.note(f"run {number} of {len(planned)}: {run.name}")
            table.ended(run, carry_out(run, watch), watch, f"{number} of {len(planned)}")
    return table.write()


def _prepare(study: Study, folder: Path, *, resume: bool) -> None:
    """Make the folder and put the study there.

    Raises:
        UserError: the folder holds a study already and `resume` is off, or holds something else.
    """
    mark = folder / "study.yaml"
    if mark.is_file() and not resume:
        raise UserError(f"{folder}: holds a study already. Go on with --resume, choose another --out, or delete it.")
    if not mark.is_file() and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no study; choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --out.") from error
    settings = yaml.safe_dump(study.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    changes = "".join(f"#   --set {change}\n" for change in study.changes)
    write_atomically(mark, f"# {study.name}\n{changes}{settings}")


@dataclass
class _Table:
    """What is finished so far, and its file."""

    study: Study
    folder: Path
    samples: Mapping[str, int]
    dollars_per_hour: float | None
    num_jobs: int
    runs: dict[str, list[FinishedRun]]
    """By their row."""
    failed: dict[str, str] = field(default_factory=dict)

    def finished(self, run: PlannedRun) -> None:
        """Add a run."""
        runs = self.runs[run.row]
        runs.append(read_finished(run.folder, run.seed))
        runs.sort(key=lambda run: self.study.config.seeds.index(run.seed))

    def ended(self, run: PlannedRun, problem: str | None, watch: Watch, place: str) -> None:
        """Add a run and write the table, or note what went wrong with it."""
        if problem is not None:
            self.failed[run.name] = problem
            watch.note(f"failed, {place}: {run.name}: {problem}")
            return
        self.finished(run)
        watch.note(f"finished, {place}: {run.name}")
        self.write()

    def write(self) -> StudyRecord:
        """The record of what is finished, on disk too.

        Raises:
            UserError: nothing is, or runs are not measured in a metric of the study.
        """
        if not any(self.runs.values()):
            problems = "; ".join(f"{name}: {problem}" for name, problem in self.failed.items())
            raise UserError(f"{self.study.name}: no run came to an end. {problems}")
        record = compare(
            self.study,
            self.runs,
            self.samples,
            failed=self.failed,
            dollars_per_hour=self.dollars_per_hour,
            num_jobs=self.num_jobs,
        )
        text = json.dumps(record.to_json(), indent=2, ensure_ascii=False)
        write_atomically(self.folder / "study.json", text + "\n")
        write_atomically(self.folder / "study.md", study_markdown(record))
        return record
