"""`pocketclip evaluate`."""

from typing import Annotated

import typer

from pocketclip.cli.options import MODEL_HELP, Device, Json, MaxBrokenShare, source_text, wants_json


def evaluate(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="What to measure on, as KIND:PLACE.")],
    tasks: Annotated[list[str], typer.Option("--task", help="Task name; may be repeated.")] = ["retrieval"],  # noqa: B006
    device: Device = "auto",
    train_data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="What a probe learns from; without it, four fifths of --data."),
    ] = None,
    against_start: Annotated[bool, typer.Option(help="Compare probes with the towers before training.")] = True,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of fine_tuning.")
    ] = None,
    max_broken_share: MaxBrokenShare = 0.01,
    json_lines: Json = False,
) -> None:
    """Measure a model; one JSON line a task, or tables on a terminal.

    \b
    Example:
      pocketclip evaluate runs/mine --task retrieval --data folder:more_photos
      pocketclip evaluate open_clip:MobileCLIP-S1/datacompdr --data folder:more_photos
      pocketclip evaluate runs/mine --task linear_probe --data folder:test,classes=folders --train-data \
        folder:train,classes=folders
    """
    import json

    from pocketclip.cli.encoding import opened
    from pocketclip.cli.tables import print_retrieval, print_unimodal
    from pocketclip.cli.unimodal import TASKS as UNIMODAL
    from pocketclip.cli.unimodal import measure_unimodal
    from pocketclip.errors import UserError, unknown_choice
    from pocketclip.evaluate.tasks import TASKS, run_task

    for task in tasks:
        if task not in TASKS and task not in UNIMODAL:
            raise unknown_choice("task", task, [*TASKS, *UNIMODAL])
    plain, unimodal = [task for task in tasks if task in TASKS], [task for task in tasks if task in UNIMODAL]
    if not unimodal and (train_data is not None or not against_start):
        given = "--train-data" if train_data is not None else "--no-against-start"
        raise UserError(f"{given}: has no effect on {', '.join(tasks)}; it is for {', '.join(UNIMODAL)}.")
    if changes and "fine_tuning" not in tasks:
        raise UserError(f"--set: has no effect on {', '.join(tasks)}; it is for fine_tuning.")
    results = []
    if plain:
        with opened(source_text(data), model, device, max_broken_share, place="--data") as (source, loaded, progress):
            results = [run_task(task, loaded, source, progress) for task in plain]
    learned = []
    if unimodal:
        learned = measure_unimodal(
            unimodal,
            model,
            data,
            train_data,
            device=device,
            max_broken_share=max_broken_share,
            against_start=against_start,
            changes=changes or [],
        )
    if wants_json(json_lines):
        for result in (*results, *learned):
            typer.echo(json.dumps(result.to_json()))
    else:
        print_retrieval(results)
        print_unimodal(learned)
