"""`pocketclip evaluate`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import MODEL_HELP, Device, Json, MaxBrokenShare
from pocketclip.cli.suite import SuiteName, SuiteOut, SuiteRoot, evaluate_suite

if TYPE_CHECKING:
    from pocketclip.embedder import Embedder
    from pocketclip.evaluate.identities import Ids
    from pocketclip.evaluate.task_data import Answers
    from pocketclip.evaluate.tasks import Task, TaskData
    from pocketclip.head import Head
    from pocketclip.records import EvalResult
    from pocketclip.stages.watch import Watch

MeasuredOn = Annotated[str | None, typer.Option("--data", metavar="SOURCE", help="What to measure on, as KIND:PLACE.")]
TaskNames = Annotated[
    list[str] | None,
    typer.Option("--task", help="Task name, see `pocketclip list tasks`; may be repeated. Otherwise retrieval."),
]
SameCaptions = Annotated[
    Literal["own", "right"] | None,
    typer.Option(help="Of a caption that several pictures have, count its own picture as right, or each of them."),
]
TaskChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a task, such as num_epochs=10."),
]

KeepItems = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Keep what came of every single item, for `pocketclip compare --items`."),
]
KeepHead = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Keep linear_probe's classifier of the embedding, for Python's `classify`."),
]
ClipBenchmark = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write the results as files of CLIP_benchmark, too.")
]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: MeasuredOn = None,
    tasks: TaskNames = None,
    suite: SuiteName = None,
    root: SuiteRoot = None,
    out: SuiteOut = None,
    device: Device = "auto",
    train_data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="What a probe learns from; without it, four fifths of --data.")
    ] = None,
    against_start: Annotated[bool, typer.Option(help="Compare probes with the towers before training.")] = True,
    same_captions: SameCaptions = None,
    changes: TaskChanges = None,
    max_broken_share: MaxBrokenShare = 0.01,
    keep_items: KeepItems = None,
    keep_head: KeepHead = None,
    clip_benchmark: ClipBenchmark = None,
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
      pocketclip evaluate runs/mine --suite datacomp --root sets --out scores
    """
    from pocketclip.asked import open_model
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.config import apply_change
    from pocketclip.evaluate.tasks import make_tasks
    from pocketclip.models.running.precision import precision_of_scores

    if suite is not None:
        beside: dict[str, Any] = {"--data": data, "--task": tasks, "--train-data": train_data, "--set": changes}
        beside |= {"--same-captions": same_captions, "--no-against-start": not against_start}
        beside |= {"--keep-items": keep_items, "--keep-head": keep_head, "--clip-benchmark": clip_benchmark}
        shared: dict[str, Any] = {"device": device, "max_broken_share": max_broken_share, "as_json": json_lines}
        evaluate_suite(model, suite, root, out=out, beside=beside, **shared)
        return
    data = _data_without_suite(data, root, out)
    settings: dict[str, Any] = {}
    for change in changes or []:
        apply_change(settings, change, example="num_epochs=10")
    options: dict[str, Any] = {"max_broken_share": max_broken_share, "against_start": against_start}
    options |= {} if same_captions is None else {"same_captions": same_captions}
    asked = make_tasks(tasks or ["retrieval"], settings, options)
    _check_effects(asked, train_data, same_captions, keep_head, against_start=against_start)
    given = opened(asked, data, train_data, keeps_items=keep_items is not None)
    sources = [source for source in given.opened if source is not None]
    with loading(model):
        loaded = open_model(model, device=device, precision=precision_of_scores("auto"))
    measured: list[_Measured] = []
    try:
        with reporter(max_broken_share, sum(map(len, sources)) or None) as shown:
            tell_left_out(shown, *sources)
            for task in asked:
                task.expect(loaded, given)
            for task in asked:
                measured.append(_measured(task, loaded, given, shown))  # noqa: PERF401 (an error leaves those before it)
    finally:  # what was measured before another task failed is not lost
        if measured:
            _tell(measured, as_json=json_lines)
        for own in measured:
            _keep(own, keep_items, keep_head, clip_benchmark)


class _Measured(NamedTuple):
    """What came of a task: records of parts, then that of the whole; and what was kept of it."""

    results: "list[EvalResult]"
    items: "tuple[Answers, Ids] | None"
    head: "Head | None"


def _measured(task: "Task", model: "Embedder", data: "TaskData", watch: "Watch") -> _Measured:
    from pocketclip.evaluate.task import measure_whole_and_parts

    return _Measured(measure_whole_and_parts(task, model, data, watch), data.items, data.head)


def _tell(measured: "Sequence[_Measured]", *, as_json: bool) -> None:
    """Print the records; a table of the whole has its parts as rows."""
    from pocketclip.cli.tables import print_results
    from pocketclip.cli.telling import asked as told

    first = 0 if as_json or told.format == "csv" else -1
    print_results([result for own in measured for result in own.results[first:]], as_json=as_json)


def _keep(own: _Measured, keep_items: Path | None, keep_head: Path | None, clip_benchmark: Path | None) -> None:
    """Write what was asked for beside the results; a task that has no such form is said."""
    from dataclasses import replace

    from pocketclip.cli.telling import tell
    from pocketclip.evaluate.clip_benchmark import FORMS, write_clip_benchmark
    from pocketclip.evaluate.items import items_file, items_of, write_items

    result, items = own.results[-1], own.items
    if keep_head is not None and own.head is not None:
        tell(f"head of the embedding: {replace(own.head, measured=result).save(keep_head)}")
    if keep_items is not None:
        if items is None:
            tell(f"--keep-items: {result.task} knows of no single items; nothing of it is kept")
        else:
            write_items(keep_items / items_file(result), items_of(result, items))
    if clip_benchmark is not None and write_clip_benchmark(clip_benchmark, result) is None:
        tell(f"--clip-benchmark: has no {result.task}, only {', '.join(FORMS)}; nothing of it is written")


def _check_effects(
    asked: "Sequence[Task]",
    train_data: str | None,
    same_captions: str | None,
    keep_head: Path | None,
    *,
    against_start: bool,
) -> None:
    """Every option for some tasks, where it was given."""
    if train_data is not None:
        _check_effect("--train-data", asked, lambda task: "training data" in task.needs)
    if not against_start:
        _check_effect("--no-against-start", asked, lambda task: "against_start" in task.model_fields)
    if same_captions is not None:
        _check_effect("--same-captions", asked, lambda task: "same_captions" in task.model_fields)
    if keep_head is not None:
        from pocketclip.head import check_place

        _check_effect("--keep-head", asked, lambda task: task.keeps_head)
        check_place(keep_head)


def _data_without_suite(data: str | None, root: object, out: object) -> str:
    from pocketclip.errors import UserError

    for option, value in (("--root", root), ("--out", out)):
        if value is not None:
            raise UserError(f"{option}: has no effect without --suite.")
    if data is None:
        raise UserError("evaluate: name what to measure on, with --data KIND:PLACE, or --suite NAME --root DIR.")
    return data


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
