"""`pocketclip evaluate`."""

from typing import Annotated

import typer

from pocketclip.cli.options import Device, Json, MaxBrokenShare, source_text, wants_json


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundle, a run folder, or a name on the Hugging Face hub.")],
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="What to measure on, as KIND:PLACE.")],
    tasks: Annotated[list[str], typer.Option("--task", help="Task name; may be repeated.")] = ["retrieval"],  # noqa: B006
    device: Device = "auto",
    max_broken_share: MaxBrokenShare = 0.01,
    json_lines: Json = False,
) -> None:
    """Measure a model; one JSON line a task, or tables on a terminal.

    \b
    Example:
      pocketclip evaluate runs/mine --task retrieval --data folder:more_photos
    """
    import json

    from pocketclip.cli.encoding import opened
    from pocketclip.cli.tables import print_retrieval
    from pocketclip.errors import unknown_choice
    from pocketclip.evaluate.tasks import TASKS, run_task

    for task in tasks:
        if task not in TASKS:
            raise unknown_choice("task", task, TASKS)
    with opened(source_text(data), model, device, max_broken_share, place="--data") as (source, loaded, progress):
        results = [run_task(task, loaded, source, progress) for task in tasks]
    if wants_json(json_lines):
        for result in results:
            typer.echo(json.dumps(result.to_json()))
    else:
        print_retrieval(results)
