"""`pocketclip study`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import Device, Json, Price
from pocketclip.cli.tables import print_table
from pocketclip.cli.telling import tell


def study(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study (pocketclip list studies)."),
    ],
    changes: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the study or the recipe of every row; may be repeated."
        ),
    ] = [],  # noqa: B006 (typer copies it)
    out: Annotated[Path | None, typer.Option(help="The study's folder; runs/STUDY_NAME by default.")] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Leave finished runs alone, go on with the others; join processes at work."),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, which share the cores.")] = 1,
    device: Device = "auto",
    price: Price = None,
    json_lines: Json = False,
) -> None:
    """Train several recipes with several seeds and compare them in one table, on the validation split.

    Each run lies in OUT/ROW/seed-N; the table in OUT/study.json, OUT/study.md and, with pictures, OUT/study.html
    (docs/studies.md). A study file of towers measures what image towers cost instead; their rows lie in OUT/towers.

    \b
    Examples, the first with one seed alone:
      pocketclip study my_ladder.study.yaml --set seeds=[0] --price 0.10
      pocketclip study study/small_encoders
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.errors import UserError
    from pocketclip.study.grid import load_study
    from pocketclip.study.table import score_columns, score_rows, size_columns, size_rows, study_notes
    from pocketclip.study.towers.config import names_towers

    if names_towers(study):
        _without_effect({"--jobs": jobs != 1, "--device": device not in ("auto", "cpu"), "--price": price is not None})
        _weigh_towers(study, changes, out, resume=resume, json_lines=json_lines)
        return
    loaded = load_study(study, changes)
    folder = out or Path("runs") / loaded.name
    from pocketclip.study.runner import run_study  # with torch, for which a slip in the file should not wait
    from pocketclip.study.runs import failures

    with reporter() as shown:
        record = run_study(
            loaded, folder, watch=shown, resume=resume, device=device, dollars_per_hour=price, num_jobs=jobs
        )
    if json_lines:
        for row in record.rows:
            typer.echo(json.dumps(row.model_dump(mode="json"), ensure_ascii=False))
    else:
        title = f"{record.name}: scores, and differences to the first row"
        print_table(title, score_columns(record), score_rows(record))
        print_table("parameters, time", size_columns(record), size_rows(record))
        for line in study_notes(record):
            tell(line)
    _tell_places(folder)
    if record.failed:
        raise UserError(failures(record))


def _without_effect(given: dict[str, bool]) -> None:
    """Refuse options that a study of towers has no use for."""
    from pocketclip.errors import UserError

    for option, was_given in given.items():
        if was_given:
            raise UserError(
                f"{option}: has no effect on a study of towers, which are timed on the CPU one by one; leave it out."
            )


def _weigh_towers(study: str, changes: list[str], out: Path | None, *, resume: bool, json_lines: bool) -> None:
    """Measure image towers; those without costs make the exit code 1, while other gaps are part of the table."""
    from pocketclip.cli.progress import reporter
    from pocketclip.errors import UserError
    from pocketclip.study.towers.config import load_tower_study
    from pocketclip.study.towers.runner import run_tower_study
    from pocketclip.study.towers.table import COLUMNS, tower_notes, tower_rows

    loaded = load_tower_study(study, changes)
    folder = out or Path("runs") / loaded.name
    with reporter() as shown:
        record = run_tower_study(loaded, folder, watch=shown, resume=resume)
    if json_lines:
        for row in record.rows:
            typer.echo(json.dumps(row.model_dump(mode="json"), ensure_ascii=False))
    else:
        print_table(f"{record.name}: the fastest first", COLUMNS, tower_rows(record))
        for line in tower_notes(record):
            tell(line)
    _tell_places(folder)
    if failed := [row for row in record.rows if row.cost is None]:
        listed = "\n".join(f"{row.name}: {row.missing['cost']}" for row in failed)
        raise UserError(f"{len(failed)} of {len(record.rows)} towers failed; --resume tries them again.\n{listed}")


def _tell_places(folder: Path) -> None:
    page = f"   Page: {folder}/study.html" if (folder / "study.html").is_file() else ""
    tell(f"Record: {folder}/study.json   Table: {folder}/study.md{page}")
