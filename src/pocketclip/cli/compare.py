"""`pocketclip compare`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import Device, Json, MaxBrokenShare

if TYPE_CHECKING:
    from pocketclip.evaluate.comparison import Comparison
    from pocketclip.evaluate.items import Items


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A model or run; 'runs/a/seed-*' in quotes for several runs.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What it is compared with, named alike.")],
    data: Annotated[str | None, typer.Option("--data", metavar="SOURCE", help="What both are measured on.")] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="Task name; may be repeated. Without it, retrieval or all kept.")
    ] = None,
    items: Annotated[
        bool, typer.Option("--items", help="A and B are folders or files of `evaluate --keep-items`: nothing is rerun.")
    ] = False,
    train_data: Annotated[str | None, typer.Option(metavar="SOURCE", help="What probes learn from.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a task.")
    ] = None,
    device: Device = "auto",
    max_broken_share: MaxBrokenShare = 0.01,
    json_lines: Json = False,
) -> None:
    """Say which of two models is better: a paired test on the same items, with the difference and its interval.

    \b
    Examples:
      pocketclip compare runs/a runs/b --task retrieval --data folder:photos
      pocketclip compare 'runs/a/seed-*' 'runs/b/seed-*' --data folder:photos
      pocketclip compare --items items/a items/b
    """
    from pocketclip.errors import UserError
    from pocketclip.evaluate.comparison import compare as compare_items
    from pocketclip.evaluate.sides import kept_items, runs_of, same_questions

    if items:
        for option, value in (("--data", data), ("--train-data", train_data), ("--set", changes)):
            if value:
                raise UserError(f"{option}: has no effect with --items, which measures nothing.")
        pairs = same_questions(kept_items(a), kept_items(b), tasks)
        names = _names(a, b)
        found = [compare_items(ours, theirs, names=names) for ours, theirs in pairs]
    else:
        if data is None:
            raise UserError("--data: what to measure both on is missing; or compare kept items: compare --items A B.")
        sides = runs_of(a), runs_of(b)
        measured = _measured([*sides[0], *sides[1]], data, tasks or ["retrieval"], train_data, changes,
                             device=device, max_broken_share=max_broken_share)  # fmt: skip
        count = len(sides[0])
        found = [compare_items(own[:count], own[count:], names=_names(a, b)) for own in measured]
    for comparison in found:
        _show(comparison, as_json=json_lines)


def _names(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a != b else (f"{a} (A)", f"{b} (B)")


def _measured(
    models: list[str],
    data: str,
    tasks: list[str],
    train_data: str | None,
    changes: list[str] | None,
    *,
    device: str,
    max_broken_share: float,
) -> "list[list[Items]]":
    """Of each task the items of every model, which are loaded one after the other."""
    from pocketclip.asked import lasting_name, open_model
    from pocketclip.cli.evaluate import opened
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.config import apply_change
    from pocketclip.evaluate.items import items_of
    from pocketclip.evaluate.task import measure
    from pocketclip.evaluate.tasks import make_tasks
    from pocketclip.models.running.precision import precision_of_scores

    settings: dict[str, object] = {}
    for change in changes or []:
        apply_change(settings, change, example="num_epochs=10")
    options = {"max_broken_share": max_broken_share, "against_start": False}
    asked = make_tasks(tasks, settings, options)
    for model in models:
        lasting_name(model)  # a name that is nobody's is told before any of them is measured
    found: list[list[Items]] = [[] for _ in asked]
    for number, model in enumerate(models):
        given = opened(asked, data, train_data, keeps_items=True)
        sources = [source for source in given.opened if source is not None]
        with loading(model):
            loaded = open_model(model, device=device, precision=precision_of_scores("auto"))
        with reporter(max_broken_share, sum(map(len, sources)) or None) as shown:
            if number == 0:
                tell_left_out(shown, *sources)
            for task, own in zip(asked, found, strict=True):
                own.append(items_of(measure(task, loaded, given, shown), given.items))
    return found


def _show(found: "Comparison", *, as_json: bool) -> None:
    """A line of JSON, or a table with the verdict below."""
    from pocketclip.cli.tables import plain_console, print_table
    from pocketclip.errors import printable

    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return
    rows = [
        [
            name.replace("_", " "),
            f"{100 * own.a:.1f}",
            f"{100 * own.b:.1f}",
            f"{100 * own.difference.value:+z.1f} [{100 * own.difference.low:+z.1f}, {100 * own.difference.high:+z.1f}]",
            "yes" if own.is_sure else "not known",
            f"{own.wins:,} / {own.losses:,} / {own.ties:,}",
        ]
        for name, own in found.metrics.items()
    ]
    title = f"A = {found.a.name}, B = {found.b.name}: {found.task} on {found.dataset}, {found.num_units:,} {found.unit}"
    print_table(title, ("percent", "A", "B", "A - B", "differs", "A wins / loses / ties"), rows)
    lines = [found.verdict, f"Rests on: {found.rests_on}.", *found.notes]
    plain_console().print(printable("\n".join(lines), keep="\n"), highlight=False)
