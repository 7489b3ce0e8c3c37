"""Linear probes of one tower's frozen features, before training and after, and of the embedding behind it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import NonNegativeInt
from torch import nn

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.embedder import Embedder
from pocketclip.evaluate.logistic_regression import Probe, linear_probe
from pocketclip.evaluate.task import TaskData
from pocketclip.evaluate.tower import (
    NOT_TRAINED,
    RANDOM_START,
    Asked,
    Examples,
    ImageExamples,
    Part,
    Parts,
    TextExamples,
    TowerTask,
    accuracies,
    class_counts,
    matched,
)
from pocketclip.models.bare import bare_tower
from pocketclip.models.dual_encoder import DualEncoder, SharedDualEncoder
from pocketclip.models.origin.start import same_weights, starting_image_encoder, starting_text_encoder
from pocketclip.models.running.runner import Runner, project
from pocketclip.models.tower import NoTower, Tower
from pocketclip.records import EvalResult, Interval
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.tokenizer import Tokenizer

Ask = Callable[[Embedder | Asked], Parts]


class ProbeTask(TowerTask):
    """A logistic regression on frozen features: of a model of ours before and behind its head, else of embeddings."""

    seed: NonNegativeInt = 0
    """Of the part that the regulariser is chosen on."""

    def examples(self, data: TaskData) -> tuple[Examples, Examples]:
        """To learn from, and to be tested on: texts or images that have a class."""
        if self.modality == "text":
            train, test = data.texts
            return TextExamples(train), TextExamples(test)
        return ImageExamples.of(data.images[0]), ImageExamples.of(data.images[1])

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        """See `Task`; another library's towers are not known apart, so of its models the embedding is probed."""
        train, test = self.examples(data)
        classes = matched(train, test)

        def ask(encodes: Embedder | Asked) -> Parts:
            return (
                train.features(encodes, classes.train, "training", watch),
                test.features(encodes, classes.test, "test", watch),
            )

        if isinstance(model, PretrainedModel):
            parts, notes = self._before_and_after(model, ask)
        else:
            parts, notes = {"_embedding": ask(model.for_scores())}, []
        device = torch.device("cuda" if model.is_on_gpu else "cpu")
        num_classes = len(classes.class_names)
        metrics = probe_metrics(parts, num_classes, seed=self.seed, device=device, watch=watch)
        return self.record(test, metrics, notes, next(iter(parts.values())))

    def _before_and_after(self, model: PretrainedModel, ask: Ask) -> tuple[dict[str, Parts], list[str]]:
        """Features by the ending of their metrics: of the tower, of its start, and the embedding; and what to note."""
        own: Tower = getattr(model.model, f"{self.modality}_encoder")
        start, tokenizer = self._start(model) if self.against_start else (None, model.tokenizer)
        parts, notes = {"": ask(self._bare(model, own, model.tokenizer))}, []
        if start is None:
            notes = [RANDOM_START] if self.against_start else []
        elif same_weights(own, start):
            parts["_start"], notes = parts[""], [NOT_TRAINED]
        else:
            parts["_start"] = ask(self._bare(model, start, tokenizer))
        parts["_embedding"] = self._embedding(model, parts[""], ask)
        return parts, notes

    def _start(self, model: PretrainedModel) -> tuple[Tower | None, Tokenizer]:
        if self.modality == "image":
            return starting_image_encoder(model.config), model.tokenizer
        return starting_text_encoder(model.config, model.tokenizer) or (None, model.tokenizer)

    def _bare(self, model: PretrainedModel, encoder: Tower, tokenizer: Tokenizer) -> Asked:
        """A tower alone, as exact as scores ask for, on the model's device."""
        scores = model.runner_for_scores()
        towers: dict[str, Any] = {"image": NoTower(), "text": NoTower()}
        towers[self.modality] = bare_tower(model.model, encoder, self.modality)
        bare = DualEncoder(towers["image"], towers["text"], nn.Identity(), nn.Identity())
        size, precision = scores.image_size, scores.precision
        runner = Runner(bare, device=scores.device, precision=precision, image_size=size, heads=False)
        return Asked(runner, model.preprocess, tokenizer)

    def _embedding(self, model: PretrainedModel, towers: Parts, ask: Ask) -> Parts:
        """The head on the tower's features, or the whole way again where a shared encoder lies between."""
        runner = model.runner_for_scores()
        if isinstance(model.model, SharedDualEncoder):
            return ask(Asked(runner, model.preprocess, model.tokenizer))
        head: nn.Module = getattr(model.model, f"{self.modality}_head")
        head = head.to(runner.device).eval()
        train, test = (
            Part(project(head, part.features, runner.device), part.labels, part.num_left_out) for part in towers
        )
        return train, test


def probe_metrics(
    parts: Mapping[str, Parts], num_classes: int, *, seed: int, device: torch.device, watch: Watch
) -> dict[str, Interval | float]:
    """A probe of each kind of features, and how the accuracy changed where there is a `_start`.

    Args:
        parts: by the ending of the metrics' names.
        num_classes: C.
        seed: of the part that the regulariser is chosen on.
        device: where to fit.
        watch: told of the fits done.
    """
    probes: dict[str, Probe] = {}
    for ending, (train, test) in parts.items():
        if ending == "_start" and parts["_start"] is parts[""]:
            probes[ending] = probes[""]
            continue
        probes[ending] = linear_probe(
            train.features,
            train.labels,
            test.features,
            test.labels,
            num_classes=num_classes,
            seed=seed,
            device=device,
            watch=watch,
            work=f"probing {ending.strip('_') or 'tower'}",
        )
    metrics = accuracies({ending: probe.correct for ending, probe in probes.items()})
    metrics |= {f"penalty{ending}": probe.penalty for ending, probe in probes.items()}
    return metrics | class_counts(next(iter(parts.values())), num_classes)
