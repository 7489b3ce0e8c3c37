"""`pocketclip fit`."""

import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli import STARTED
from pocketclip.cli.options import Device, Json, SourceText
from pocketclip.cli.telling import tell

if TYPE_CHECKING:
    from pocketclip.study.fit.carry import Fitting


def fit(
    source: SourceText,
    budget: Annotated[str, typer.Option(metavar="TIME", help="For all of it, such as 20min, 90s or 1h30m.")],
    latency: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of one picture and one sentence through the model here, such as 10ms."),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="BYTES", help="Of the bundle on disk, such as 25MB.")] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="That training and using the model may take, such as 4GB.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run's folder; with the same words it is gone on with.")] = Path(
        "runs/fit"
    ),
    device: Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    json_lines: Json = False,
) -> None:
    """Train the best model for your pictures that a time, and what the model may take, allow.

    Looks at the data and the machine for some seconds, chooses towers, resolution and schedule from what is on record,
    says why, trains and measures. The bundle keeps the limits; its recipe is OUT/recipe.yaml (docs/fit.md).

    \b
    Examples:
      pocketclip fit folder:photos --budget 20min --out runs/mine
      pocketclip fit folder:photos --budget 20min --size 50MB --dry-run
    """
    from pocketclip.study.fit.limits import Limits

    limits = Limits.read(budget, latency, size, memory)
    from pocketclip.cli.progress import reporter
    from pocketclip.cli.train import show_outcome
    from pocketclip.errors import UserError, require_extra

    require_extra("train")
    from pocketclip.files import alone_in
    from pocketclip.study.fit.carry import Fitting, Request, begin, carry_out, decide, elapsed

    request = Request(source=source, limits=limits)
    with reporter() as shown, nullcontext() if dry_run else alone_in(out):
        there = None if dry_run else Fitting.there(out, request)
        fitting = there or decide(request, device=device, spent=elapsed(STARTED), watch=shown)
        if dry_run:
            _show_decision(fitting, as_json=json_lines)
            return
        for line in fitting.lines:
            shown.note(line)
        if there is not None:
            shown.note(f"{out}: goes on with what was begun there.")
        begin(fitting, out)
        fitted = carry_out(fitting, out, device=device, started=STARTED, watch=shown)
    show_outcome(fitted.outcome, as_json=json_lines)
    if fitted.kept:
        tell(f"Limits: {', '.join(fitted.kept)}.")
    index = shlex.join(["pocketclip", "index", source, "--model", str(out), "--out", "index"])
    tell(f"Recipe: {out}/recipe.yaml   Search your pictures: {index}")
    if fitted.broken:
        raise UserError(
            f"{out}: the bundle takes more than it may ({', '.join(fitted.broken)}), though its towers were within the "
            "limit when they were chosen. Give a narrower limit and another --out, on a machine without other work."
        )


def _show_decision(fitting: "Fitting", *, as_json: bool) -> None:
    """The three lines, or all that was decided as one JSON object."""
    from pocketclip.errors import printable

    if as_json:
        typer.echo(json.dumps(fitting.model_dump(mode="json"), ensure_ascii=False))
        return
    for line in fitting.lines:
        typer.echo(printable(line))
