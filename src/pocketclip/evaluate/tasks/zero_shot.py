"""Zero-shot classification: the class whose sentences are nearest to an image, with nothing learned from the data."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import field_validator

from pocketclip.data.labels import NO_LABEL
from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError, unknown_choice
from pocketclip.evaluate.class_sets import DEFAULT_TEMPLATES, class_set, read_templates
from pocketclip.evaluate.class_sets.asked import OWN, Asked, ask_own, ask_set
from pocketclip.evaluate.class_sets.places import Ids
from pocketclip.evaluate.classification import (
    MACRO_F1,
    MEAN_CLASS,
    TOP,
    accuracies,
    check_finite,
    class_scores,
    classify,
    item_shares,
    macro_f1,
)
from pocketclip.evaluate.groups import WORST, Groups, group_scores, groups_line, read_groups, worst_groups
from pocketclip.evaluate.identities import pictures_of
from pocketclip.evaluate.out_of_distribution import AUPR, area_of_unknown, embed_known
from pocketclip.evaluate.prompts import class_embeddings, prompts_hash
from pocketclip.evaluate.task import Task
from pocketclip.evaluate.task_data import TaskData
from pocketclip.records import EvalResult, Interval, Protocol, percent
from pocketclip.stages.watch import SILENT, Watch

if TYPE_CHECKING:
    from pocketclip.features.encode import Embeddings

USUAL = (*TOP, MEAN_CLASS)
METRICS = (*USUAL, MACRO_F1, *WORST, AUPR)
LABELS = {
    "top1_accuracy": "top-1",
    "top5_accuracy": "top-5",
    MEAN_CLASS: "mean over classes of top-1",
    MACRO_F1: "mean over classes of F1",
    "worst_group_accuracy": "top-1 of the worst group",
    "worst_group_top5_accuracy": "top-5 of the worst group",
    AUPR: "AUPR of images of no known class",
}
Flags = npt.NDArray[np.bool_]
_NOT_ASKED = 0.1
"""Share of images that a set leaves out above which only the others are encoded."""


class ZeroShot(Task):
    """Accuracy with class names alone: the class whose sentences are nearest; ImageNet and others by name."""

    kind: Literal["zero_shot"] = "zero_shot"
    needs = frozenset({"classes"})
    heading = "Zero-shot classification"
    unit = "images"
    counted = "images"
    meaning = (
        "Top-1: the right class comes first; top-5: among the first five. A class is the mean of its name in each "
        "template; ties count against the model."
    )
    openings = {"top1_accuracy": "The right class comes first for {} of 100 images"}

    protocol: str = "none"
    """A data set by name, such as imagenet_v2: its class names, templates, metrics and folders, as published."""
    class_names: str = OWN
    """A file with a class a line in the order of their numbers, the name of a set, or the source's own."""
    templates: str = OWN
    """`one`, `seven`, `eighty`, a file with a sentence a line, or those of the protocol."""
    metrics: tuple[str, ...] = ()
    """Which scores to give; empty for those of the protocol."""
    missing_classes: Literal["refused", "allowed"] = "refused"
    """Whether the data may lack classes of the protocol."""
    in_distribution: str = "none"
    """Of `aupr`: images of known classes, as KIND:PLACE, which those of the data are told from."""

    grouped_by: str = "none"
    """What of the images' metadata tells groups that are scored apart, such as `region`; see `groups.py`."""
    group_names: tuple[str, ...] = ()
    """What groups are called that the metadata number, in their order from 0."""
    left_out_groups: tuple[str, ...] = ()
    """Groups that are not the worst however they fare, such as Other."""

    @field_validator("metrics", "group_names", "left_out_groups", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        wanted, source = self._wanted(), data.source
        if len(source) == 0:
            raise UserError(f"{source.name}: no images.")
        model.text_reader()  # before any work
        templates = self._templates()
        asked = self._asked(source)
        has_answer = (asked.right != NO_LABEL).any(axis=1)
        if not has_answer.any():
            raise UserError(f"{source.name}: no image has a class that is asked about.")
        self._check_metrics(asked)
        parts = self._parts(source)
        classes = class_embeddings(model, asked.class_names, templates, watch)
        embeddings, kept = _embedded(model, data, has_answer, watch)
        images, indices = embeddings.images[kept], embeddings.indices[kept]
        if len(images) == 0:
            raise UserError(f"{source.name}: none of the images with a class can be read.")
        check_finite(images, model, source.name)
        answers = classify(images, classes, asked.right[indices], asked.class_names)
        groups = None if asked.groups is None else asked.groups[indices]
        answered: Ids = asked.of_name[answers.predicted]
        metrics: dict[str, Interval | float] = {**accuracies(answers.ranks, groups, len(classes))}
        data.keep(item_shares(answers.ranks, groups, len(classes)), pictures_of(embeddings, source)[kept])
        if AUPR in wanted:
            known = embed_known(model, self.in_distribution, self.protocol, watch)
            check_finite(known, model, self.in_distribution)
            share = len(images) / (len(images) + len(known))
            asked.notes.append(f"aupr beside {len(known):,} images of known classes; by chance {100 * share:.1f} %")
            metrics[AUPR] = area_of_unknown(images, known, classes, model.inverse_temperature or 1.0)
        if MACRO_F1 in wanted and groups is not None:
            metrics[MACRO_F1] = macro_f1(groups, answered)
        own = None if parts is None else parts.of(indices)
        if own is not None:
            metrics |= worst_groups(answers.ranks, own, len(classes))
            asked.notes.extend(own.notes)
        notes = [*asked.notes, *_left_out(has_answer, len(images), asked.num_told)]
        return EvalResult(
            task=self.kind,
            dataset=source.name,
            split="all",
            num_images=len(images),
            num_captions=0,
            metrics={
                **{name: metrics[name] for name in wanted if name in metrics},
                **_sizes(asked, asked.right[indices], groups, len(source) - len(images)),
            },
            notes=[*notes, *asked.class_notes(groups)],
            protocol=Protocol(
                name=OWN if self.protocol == "none" else self.protocol,
                class_names=asked.origin,
                num_classes=len(asked.class_names),
                templates=self._templates_name(),
                num_templates=len(templates),
                hash=prompts_hash(asked.class_names, templates),
            ),
            classes=[] if groups is None else class_scores(groups, answered, asked.group_names),
            groups=[] if own is None else group_scores(answers.ranks, own, len(classes)),
        )

    def _wanted(self) -> tuple[str, ...]:
        """The metrics, the one that is published first; a UserError where a setting does not fit another."""
        for name in self.metrics:
            if name not in METRICS:
                raise unknown_choice("metric", name, METRICS)
        if self.protocol != "none" and self.class_names != OWN:
            raise UserError(f"--set class_names: protocol={self.protocol} has its own; leave one of them out.")
        published = class_set(self.protocol).metrics if self.protocol != "none" else USUAL
        wanted = self.metrics or (*published, *(WORST if self.grouped_by != "none" else ()))
        given = self.in_distribution != "none"
        if AUPR in self.metrics and not given:
            raise UserError(
                f"--set metrics={AUPR}: needs images of known classes beside those of none; name them with --set "
                "in_distribution=folder:imagenet/val,classes=folders"
            )
        if given and AUPR not in wanted:
            raise UserError(f"--set in_distribution: has no effect without --set metrics={AUPR}.")
        return wanted if given else tuple(name for name in wanted if name != AUPR)

    def _check_metrics(self, asked: Asked) -> None:
        """A UserError for a metric that was asked for and says nothing here."""
        size = len(asked.class_names)
        for name in (MEAN_CLASS, MACRO_F1):
            if name in self.metrics and asked.groups is None:
                raise UserError(f"--set metrics={name}: images of {self.protocol} have no single class; leave it out.")
        for name, k in (TOP | WORST).items():
            if name in self.metrics and 1 < k >= size:
                raise UserError(f"--set metrics={name}: says nothing among {size} classes; leave it out.")

    def _parts(self, source: Source) -> Groups | None:
        """The groups that scores are asked of; a UserError where a setting of theirs does not fit another."""
        if self.grouped_by != "none":
            return read_groups(source, self.grouped_by, self.group_names, self.left_out_groups)
        for name in self.metrics:
            if name in WORST:
                raise UserError(f"--set metrics={name}: of which groups? Add --set grouped_by=KEY, such as region.")
        for setting in ("group_names", "left_out_groups"):
            if getattr(self, setting):
                raise UserError(f"--set {setting}: has no effect without --set grouped_by=KEY, such as region.")
        return None

    def _templates_name(self) -> str:
        if self.templates != OWN:
            return self.templates
        if self.protocol == "none":
            return DEFAULT_TEMPLATES
        own = class_set(self.protocol).templates
        return own if isinstance(own, str) else self.protocol

    def _templates(self) -> tuple[str, ...]:
        own = class_set(self.protocol).templates if self.templates == OWN and self.protocol != "none" else ""
        return own if isinstance(own, tuple) else read_templates(self._templates_name())

    def _asked(self, source: Source) -> Asked:
        if self.protocol == "none":
            if self.missing_classes == "allowed":
                raise UserError("--set missing_classes: has no effect without --set protocol=NAME.")
            return ask_own(source, self.class_names)
        return ask_set(source, self.protocol, allow_missing=self.missing_classes == "allowed")

    def title(self, result: EvalResult) -> str:
        """What was measured, on what, among how many classes."""
        if result.protocol is None:
            return super().title(result)
        asked = result.protocol
        templates = f"{asked.num_templates} template{'s' if asked.num_templates > 1 else ''}"
        what = f" by the protocol {asked.name}" if asked.name != OWN else ""
        return (
            f"{self.heading}{what}: {self.counts(result)} among {asked.num_classes:,} classes, {templates}; "
            "percent [95 % interval]"
        )

    def measured_on(self, result: EvalResult) -> str:
        """The protocol, or the data where they belong to none; with the templates."""
        if result.protocol is None:
            return result.split
        data = result.dataset if result.protocol.name == OWN else result.protocol.name
        return f"{data}, templates {result.protocol.templates}"

    def sizes(self, result: EvalResult) -> dict[str, int]:
        return {"images": result.num_images}

    def rows(self, result: EvalResult) -> list[list[str]]:
        """A row for each score, the published one first, then what guessing and the commonest class would score."""
        scores = [[LABELS[name], percent(value)] for name, value in result.metrics.items() if name in LABELS]
        guess = self.chance(result)
        rows = [["guessing", percent(guess[1])]] if guess else []
        if (commonest := result.metrics.get("commonest_class_accuracy")) is not None:
            rows.append(["always the commonest class", percent(commonest)])
        return [*scores, *rows]

    def chance(self, result: EvalResult) -> tuple[str, float] | None:
        return None if "chance" not in result.metrics else ("top-1", float(str(result.metrics["chance"])))

    def remarks(self, result: EvalResult) -> list[str]:
        """The classes that fare worst, and what is taken for what; then the notes."""
        there = sorted(
            ((own.top1_accuracy, own) for own in result.classes if own.top1_accuracy is not None),
            key=lambda pair: pair[0],
        )
        lines = []
        if len(there) > 1:
            worst = ", ".join(f"{own.name} {percent(share)} (of {own.num_images:,})" for share, own in there[:3])
            lines.append(f"hardest classes: {worst}")
        groups = [groups_line(str(result.settings.get("grouped_by", "group")), result.groups)] if result.groups else []
        return [*groups, *lines, *result.notes]


def _embedded(model: Embedder, data: TaskData, wanted: Flags, watch: Watch) -> "tuple[Embeddings, Flags]":
    """Images in a model's space with their numbers in the source, and which of them are asked about."""
    only = np.flatnonzero(wanted) if (~wanted).mean() > _NOT_ASKED else None
    embeddings = data.image_embeddings(model, watch, only=only)
    return embeddings, wanted[embeddings.indices]


def _left_out(asked: Flags, measured: int, num_told: int) -> list[str]:
    """How many images were not measured, and why, where no other note tells of them."""
    without = int((~asked).sum()) - num_told
    broken = int(asked.sum()) - measured
    notes = [f"{without:,} images without a class that is asked about left out"] if without else []
    return [*notes, *([f"{broken:,} broken items left out"] if broken else [])]


def _sizes(asked: Asked, right: Ids, groups: Ids | None, left_out: int) -> dict[str, float]:
    """What a reader needs beside the scores."""
    size = len(asked.class_names)
    guessed = float((right != NO_LABEL).sum(axis=1).mean() / size)
    sizes = {"num_classes": float(size), "num_left_out": float(left_out), "chance": guessed}
    if groups is not None:
        sizes["commonest_class_accuracy"] = float(np.bincount(groups).max() / len(groups))
    return sizes
