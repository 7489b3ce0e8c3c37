"""Run and study folders as commands leave them, and every kind of page made of them, hard cases among them."""

import base64
import functools
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from pages import ATTACK
from pocketclip.evaluate.tasks.retrieval import RECALLS
from pocketclip.files import write_atomically
from pocketclip.records import (
    ClassScore,
    CostResult,
    EvalResult,
    Interval,
    Protocol,
    Provenance,
    RunRecord,
    write_record,
)
from pocketclip.report.board import write_board
from pocketclip.report.demo import Demo, write_demo
from pocketclip.report.gallery import Example, Gallery, Result, write_gallery
from pocketclip.report.runs import write_report
from pocketclip.study.page import write_study_page
from pocketclip.study.record import RECORD, Measure, RowResult, SeedResult, StudyRecord
from pocketclip.study.towers.config import MeasureConfig, TowerConfig
from pocketclip.study.towers.page import write_towers_page
from pocketclip.study.towers.record import Spread, TowerCost, TowerResult, TowersRecord, TowerTraining

HERE = Provenance(hardware="a toaster", code_version="1", date="2026-01-01", command="pocketclip")
PIXEL = "/9j/4AAQSkZJRg=="
LONG = "a_name_that_no_browser_can_break_" * 2


def evaluation(split: str, recall: float, images: int = 8) -> EvalResult:
    """A record of retrieval, the same in both directions."""
    metrics: dict[str, Interval | float] = {}
    for way in ("text_to_image", "image_to_text"):
        for k in (1, 5, 10):
            metrics[f"{way}_recall@{k}"] = Interval(value=recall, low=recall - 0.1, high=recall + 0.1)
        metrics[f"{way}_median_rank"] = 2.0
    return EvalResult(
        task="retrieval", dataset="x", split=split, num_images=images, num_captions=2 * images, metrics=metrics,
        notes=[f"one note on {split}"], provenance=HERE,
    )  # fmt: skip


def classified(protocol: str, accuracy: float, num_classes: int, name: str = "a class") -> EvalResult:
    """A record of zero-shot classification, of which the first class is mostly taken for the second."""
    classes = [
        ClassScore(name=f"{name} {number}", num_images=10, top1_accuracy=0.9, answers=[(number, 9), (0, 1)])
        for number in range(num_classes)
    ]
    classes[0] = ClassScore(name=f"{name} 0", num_images=10, top1_accuracy=0.3, answers=[(1, 7), (0, 3)])
    classes[-1] = ClassScore(name=f"{name} without images", num_images=0)
    asked = Protocol(
        name=protocol, class_names="x", num_classes=num_classes, templates="eighty", num_templates=80, hash="0" * 16
    )
    top1 = Interval(value=accuracy, low=accuracy - 0.03, high=accuracy + 0.04)
    return EvalResult(
        task="zero_shot", dataset="x", split="all", num_images=10 * num_classes - 10, num_captions=0,
        metrics={"top1_accuracy": top1, "mean_class_accuracy": top1, "chance": 1 / num_classes},
        notes=[f"one note on {protocol}"], provenance=HERE, protocol=asked, classes=classes,
    )  # fmt: skip


def gallery(text: str = "a red circle", picture: str = PIXEL) -> Gallery:
    """One query of each direction."""
    pictures = [Result(0.5, True, image=picture), Result(0.25, False, image=picture)]
    captions = [Result(0.5, False, text=text), Result(0.4, True, text="another")]
    return Gallery("val", 8, [Example(text, "", 1, pictures)], [Example("", picture, 2, captions)])


@functools.cache
def dark_photo() -> str:
    """A night, in which a frame has to be seen."""
    output = io.BytesIO()
    Image.new("RGB", (160, 120), (8, 10, 20)).save(output, "JPEG")
    return base64.b64encode(output.getvalue()).decode()


def full_gallery(text: str) -> Gallery:
    """What is right, missed, unreadable and long."""
    photo = dark_photo()
    found = [Result(0.9, True, image=photo, text=text), Result(0.2, False, image=photo), Result(-0.1, False)]
    missed = Result(-0.25, True, image=photo, text=text)
    sentences = [Result(0.5, False, text=text), Result(0.4, True, text="二匹の犬"), Result(0.3, False, text=LONG)]
    by_text = [
        Example(text, "", 1, found),
        Example(LONG, "", 1000, found[1:], missed),
        Example("كلبان في الثلج", "", 2, [*found, *found[1:]]),
    ]
    by_image = [
        Example("", photo, 2, sentences),
        Example(text, photo, 4321, sentences[::2], Result(0.1, True, text=LONG)),
    ]
    return Gallery("val", 1000, by_text, by_image)


def make_run(folder: Path, *, name: str = "mine", text: str = "a red circle", test: bool = False) -> Path:
    """A run folder as `train` and `cost` leave it."""
    run = RunRecord(
        name=name, seed=7, recipe_hash="ab", num_steps=1234, num_images=6000, num_captions=30000, broken_items=["x"],
        seconds={"train_train": 60.0, "total": 83.6}, seconds_per_epoch={"train_train": 2.5}, provenance=HERE,
    )  # fmt: skip
    cost = CostResult(
        name=name,
        metrics={
            "parameters_total": 26_000_000, "parameters_image": 3_400_000, "parameters_text": 22_600_000,
            "latency_ms_p50": 11.04, "precision": "float32", "device": "cpu", "num_threads": 2,
        },
        notes=["texts of 16 tokens"],
        provenance=HERE,
    )  # fmt: skip
    write_record(run, folder, "run")
    write_record(cost, folder, "cost")
    write_record(evaluation("val", 0.5), folder, "retrieval_val")
    if test:
        write_record(evaluation("test", 0.3, images=16), folder, "retrieval_test")
    rows: list[dict[str, Any]] = [
        {"stage": "heads_first", "step": 10, "epoch": 1.0, "loss": 3.0},
        {"stage": "heads_first", "step": 20, "epoch": 2.0, "loss": 2.0, "val_loss": 2.5},
        {"stage": "train", "step": 10, "epoch": 1.0, "loss": 1.5, "text_to_image_recall@1": 0.4},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(f"seed: 7 # {text}\n")
    write_gallery(gallery(text), folder)
    return folder


def measured(model: str, share: float, half: float = 0.02, **changes: Any) -> EvalResult:
    """A record of zero-shot accuracy."""
    top1 = Interval(value=share, low=share - half, high=share + half)
    values = {
        "task": "zero_shot", "dataset": "folder:/data/clothing", "split": "all", "num_images": 1000, "num_captions": 0,
        "metrics": {"top1_accuracy": top1}, "provenance": HERE, "model": model, **changes,
    }  # fmt: skip
    return EvalResult.model_validate(values)


def weighed(model: str, parameters: int, latency: float, **changes: Any) -> CostResult:
    """A record of cost."""
    metrics = {
        "parameters_total": parameters, "macs_image": 20 * parameters, "macs_text": 3 * parameters,
        "latency_ms_p50_image": latency, "latency_ms_p50_text": latency / 3, "bundle_mib": parameters / 2**18,
    }  # fmt: skip
    return CostResult.model_validate({"name": model, "metrics": metrics, "notes": [], "provenance": HERE, **changes})


def make_results(folder: Path, *records: EvalResult | CostResult) -> Path:
    """A folder of results as commands print them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "all.jsonl").write_text("".join(json.dumps(record.to_json()) + "\n" for record in records))
    return folder


def board_results(folder: Path) -> Path:
    """Models of many sizes, of which one is surely the best in a column; hard names, and gaps."""
    models = [
        ("runs/pocket_xs", 0.31, 9_000_000, 6.0), ("runs/pocket_s", 0.42, 14_000_000, 9.0),
        ("open_clip:MobileCLIP-S1/datacompdr", 0.61, 85_000_000, 61.0),
        ("open_clip:ViT-B-32/openai", 0.60, 151_000_000, 48.0),
        (LONG, 0.44, 26_000_000, 12.0), (ATTACK, 0.2, 30_000_000, 14.0),
    ]  # fmt: skip
    records: list[EvalResult | CostResult] = []
    for name, share, parameters, latency in models:
        records += [measured(name, share), weighed(name, parameters, latency)]
        records.append(
            evaluation("test", share / 2 if name != LONG else 0.7, images=1000).model_copy(update={"model": name})
        )
    records.append(measured("hf:google/siglip-base-patch16-224", 0.66, 0.1, dataset="folder:/data/others"))
    return make_results(folder, *records)


def row(name: str, recall: float | None, *, gain: float | None = None, seeds: int = 1) -> RowResult:
    """A row of a study whose scores are alike; None where no run is finished."""
    difference = None if gain is None else Interval(value=gain, low=gain - 0.01, high=gain + 0.01)
    metrics = {}
    if recall is not None:
        mean = Interval(value=recall, low=recall - 0.02, high=recall + 0.03)
        metrics = {metric: Measure(mean=mean, difference=difference) for metric in RECALLS}
    run = {
        "metrics": {},
        "num_steps": 4,
        "seconds": 158.6,
        "recipe_hash": "ab",
        **HERE.model_dump(include={"hardware", "code_version", "date"}),
    }
    return RowResult(
        name=name, folder=name[:8].strip().lower(), recipe="flickr/mine", set={"train.num_steps": 4}, samples_seen=1024,
        metrics=metrics, parameters={"parameters_image": 3_400_000, "parameters_total": 26_000_000},
        minutes=None if recall is None else 2.643, dollars=None if recall is None else 0.042,
        runs=[SeedResult(seed=seed, **run) for seed in range(seeds if recall is not None else 0)],
    )  # fmt: skip


def make_study(folder: Path, *rows: RowResult, text: str = "a red circle", **settings: Any) -> Path:
    """A study's folder with a gallery for each run that is finished."""
    record = StudyRecord(
        changes=[], dataset="x", num_images=1000, num_captions=5000, seeds=[0], intervals="95 %: of images.",
        dollars_per_hour=1.0, num_jobs=1, num_runs=len(rows), num_finished=len([own for own in rows if own.runs]),
        rows=list(rows), provenance=HERE, **{"name": "ladder", "failed": {}, "notes": [], **settings},
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECORD, json.dumps(record.to_json()))
    for own in rows:
        for run in own.runs:
            (folder / own.folder / f"seed-{run.seed}").mkdir(parents=True)
            write_gallery(full_gallery(text), folder / own.folder / f"seed-{run.seed}")
    return folder


def tower(name: str, latency: float, top1: float | None = None, **changes: Any) -> TowerResult:
    """A row of a study of towers, whose numbers follow from its latency."""

    def spread(median: float) -> Spread:
        return Spread(median=median, low=0.9 * median, high=1.2 * median, num_calls=20)

    cost = TowerCost(
        parameters=int(6e5 * latency), parameters_fused=int(5e5 * latency), macs=int(1e8 * latency),
        latency_ms_batch_1=spread(latency), latency_ms_batch_32=spread(25 * latency), peak_memory_mib=800 + latency,
        resident_before_mib=700, joules_per_1000_images=3 * latency, energy_method="codecarbon 3", precision="bfloat16",
        num_threads=2,
    )  # fmt: skip
    training = TowerTraining(
        seconds_per_epoch=30 * latency, step_ms=spread(90 * latency), peak_memory_mib=1500, joules_per_epoch=None,
        num_threads=2,
    )  # fmt: skip
    score = None
    if top1 is not None:
        metric = {"top1_accuracy_embedding": Interval(value=top1, low=top1 - 0.02, high=top1 + 0.02)}
        score = measured(f"timm:{name}/package", top1, task="linear_probe", metrics=metric, notes=["one note"])
    values = {
        "name": name, "tower": TowerConfig(name=name.lower()), "measuring": MeasureConfig(), "data": "folder:clothing",
        "train_data": None, "cost": cost, "training": training, "score": score, "provenance": HERE, **changes,
    }  # fmt: skip
    return TowerResult.model_validate(values)


def make_towers(folder: Path, *rows: TowerResult, **settings: Any) -> Path:
    """A folder of a study of towers."""
    record = TowersRecord(
        changes=[], measuring=MeasureConfig(), train_data=None, rows=list(rows), provenance=HERE,
        **{"name": "encoders", "data": "folder:clothing", "num_towers": len(rows), **settings},
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECORD, json.dumps(record.to_json()))
    return folder


def hard_towers(folder: Path) -> Path:
    """Many towers, some without a score, a training time or any costs; hard names and long reasons."""
    rows = [tower(f"Tower-{number}", 2.0 * 1.4**number) for number in range(10)]
    rows += [tower(f"Scored-{number}", 5.0 + 9 * number, 0.7 + 0.05 * number) for number in range(3)]
    rows += [
        tower(LONG, 12.0, 0.81),
        tower(ATTACK, 20.0, training=None, missing={"training": f"its process was ended by SIGSEGV {LONG}"}),
        tower("without", 9.0, cost=None, missing={"cost": ATTACK}),
    ]
    return make_towers(folder, *rows, name=f"{LONG} towers", num_towers=17)


def write_pages(folder: Path) -> list[Path]:
    """One page of each kind."""
    one = make_run(folder / "one", name=LONG, text=ATTACK, test=True)
    write_gallery(full_gallery(f"{ATTACK} and on. " * 6), one)
    others = [make_run(folder / name, name="heads") for name in ("two", "three")]
    (others[0] / "records" / "cost.json").unlink()
    classes = make_run(folder / "classes", name="told apart")
    for protocol, num_classes, called in (("imagenet", 1000, "a class"), ("imagenet_a", 19, LONG), ("own", 10, ATTACK)):
        write_record(classified(protocol, 0.5, num_classes, called), classes, protocol)
    study = make_study(
        folder / "study",
        row("as shipped", 0.2),
        row(LONG, 0.25, gain=0.05),
        row("begun, but not yet finished by far", None),
        name=f"{LONG} study",
        text=f"{ATTACK} and on. " * 6,
        failed={"begun, seed 0": f"no space left on {'/folder' * 20}"},
        notes=["weights were chosen on the same split that is shown, which flatters every row"],
    )
    shown = full_gallery("two dogs in the snow")
    asked = [Example("a child on a swing", "", None, shown.text_to_image[0].results[1:])]
    demo = Demo(LONG, f"folder:{LONG}", 1000, 0, evaluation("all", 0.5, 1000), shown, asked, 27_800_000, 64, None)
    return [
        write_report([one], folder / "report.html"),
        write_report([one, *others], folder / "reports.html"),
        write_report([classes], folder / "classes.html"),
        write_demo(demo, folder / "demo.html"),
        write_study_page(study, folder / "study.html"),
        write_towers_page(hard_towers(folder / "towers"), folder / "towers.html"),
        write_board([board_results(folder / "results"), *others], folder / "board.html")[0],
    ]
