"""`pocketclip evaluate`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import MODEL_HELP, Device, Json, MaxBrokenShare

if TYPE_CHECKING:
    from pocketclip.evaluate.tasks import Task, TaskData


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="What to measure on, as KIND:PLACE.")],
    tasks: Annotated[
        list[str], typer.Option("--task", help="Task name, see `pocketclip list tasks`; may be repeated.")
    ] = ["retrieval"],  # noqa: B006
    device: Device = "auto",
    train_data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="What a probe learns from; without it, four fifths of --data.")
    ] = None,
    against_start: Annotated[bool, typer.Option(help="Compare probes with the towers before training.")] = True,
    same_captions: Annotated[
        Literal["own", "right"] | None,
        typer.Option(help="Of a caption that several pictures have, count its own picture as right, or each of them."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a task, such as num_epochs=10."),
    ] = None,
    max_broken_share: MaxBrokenShare = 0.01,
    keep_items: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what came of every single item, for `pocketclip compare --items`."),
    ] = None,
    json_lines: Json = False,
) -> None:
    """Measure a model; one JSON line a task, or tables on a terminal.

    \b
    Examples:
      pocketclip evaluate runs/mine --task retrieval --data folder:more_photos
      pocketclip evaluate open_clip:MobileCLIP-S1/datacompdr \\
        --data folder:more_photos
      pocketclip evaluate runs/mine --task zero_shot --set protocol=pets \\
        --data folder:pets,classes=folders
      pocketclip evaluate runs/mine --task linear_probe \\
        --data folder:test,classes=folders \\
        --train-data folder:train,classes=folders
    """
    from pocketclip.asked import open_model
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.cli.tables import print_results
    from pocketclip.config import apply_change
    from pocketclip.data.source import left_out_lines
    from pocketclip.evaluate.items import items_file, items_of, write_items
    from pocketclip.evaluate.task import measure
    from pocketclip.evaluate.tasks import make_tasks
    from pocketclip.models.running.precision import precision_of_scores

    settings: dict[str, Any] = {}
    for change in changes or []:
        apply_change(settings, change, example="num_epochs=10")
    options = {"max_broken_share": max_broken_share, "against_start": against_start}
    asked = make_tasks(
        tasks, settings, options if same_captions is None else {**options, "same_captions": same_captions}
    )
    if train_data is not None:
        _check_effect("--train-data", asked, lambda task: "training data" in task.needs)
    if not against_start:
        _check_effect("--no-against-start", asked, lambda task: "against_start" in task.model_fields)
    if same_captions is not None:
        _check_effect("--same-captions", asked, lambda task: "same_captions" in task.model_fields)
    given = opened(asked, data, train_data, keeps_items=keep_items is not None)
    sources = [source for source in given.opened if source is not None]
    with loading(model):
        loaded = open_model(model, device=device, precision=precision_of_scores("auto"))
    with reporter(max_broken_share, sum(map(len, sources)) or None) as shown:
        tell_left_out(shown, *sources)
        told, results = left_out_lines(*sources), []
        for task in asked:
            result = measure(task, loaded, given, shown)
            results.append(result.model_copy(update={"notes": [*result.notes, *told]}))
            if keep_items is not None:
                write_items(keep_items / items_file(results[-1]), items_of(results[-1], given))
    print_results(results, as_json=json_lines)


def _check_effect(option: str, asked: "Sequence[Task]", takes: "Callable[[type[Task]], bool]") -> None:
    """An option for some tasks must have one of them to act on."""
    from pocketclip.errors import UserError
    from pocketclip.evaluate.tasks import task_kinds

    if not any(takes(type(task)) for task in asked):
        takers = [kind for kind, task in task_kinds().items() if takes(task)]
        given = ", ".join(task.kind for task in asked)
        raise UserError(f"{option}: has no effect on {given}; it is for {', '.join(takers)}.")


def opened(asked: "Sequence[Task]", data: str, train_data: str | None, *, keeps_items: bool = False) -> "TaskData":
    """What the tasks need of what was typed: images, texts or both."""
    from pocketclip.data import open_source
    from pocketclip.data.sources.texts import open_texts
    from pocketclip.evaluate.tasks import TaskData

    images, train, texts, train_texts = None, None, None, None
    if any("texts" in task.needs for task in asked):
        texts = open_texts(data, place="--data")
        train_texts = None if train_data is None else open_texts(train_data, place="--train-data")
    if any("texts" not in task.needs for task in asked):
        images = open_source(data, place="--data")
        train = None if train_data is None else open_source(train_data, place="--train-data")
    return TaskData(images, train=train, texts=texts, train_texts=train_texts, keeps_items=keeps_items)
