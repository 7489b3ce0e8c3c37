"""Linear probes of one tower's frozen features, before training and after, and of the embedding behind it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt

from pocketclip.data.labels import Classes
from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.evaluate.frozen import beside
from pocketclip.evaluate.task import TaskData
from pocketclip.evaluate.tower import (
    Asked,
    Examples,
    Parts,
    TowerTask,
    encode_examples,
    hits_by_score,
    matched_classes,
)
from pocketclip.records import EvalResult, Interval
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import nn

    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.evaluate.logistic_regression import Probe
    from pocketclip.models.tower import Tower

Ask = Callable[[Embedder | Asked], Parts]


class ProbeTask(TowerTask):
    """A logistic regression on frozen features: of a model of ours before and behind its head, else of embeddings."""

    seed: NonNegativeInt = 0
    """Of the part that the regulariser is chosen on."""

    def like_training(self, train: Examples, classes: Classes) -> tuple[Source, npt.NDArray[np.int64]] | None:
        """Images that the test is set beside, with their classes, where they were asked for."""
        del train, classes
        return None

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        """See `Task`; another library's towers are not known apart, so of its models the embedding is probed."""
        import torch

        from pocketclip.asked.bundle import PretrainedModel
        from pocketclip.evaluate.logistic_regression import linear_probe

        train, test = data.texts if self.modality == "text" else data.images
        classes = matched_classes(train, test)

        reference = self.like_training(train, classes)
        num_known = 0

        def ask(encodes: Embedder | Asked) -> Parts:
            nonlocal num_known
            learned = encode_examples(encodes, train, classes.train, "training", watch)
            tested = encode_examples(encodes, test, classes.test, "test", watch)
            if reference is not None:  # answered together, and told apart below
                known = encode_examples(encodes, *reference, "in-distribution", watch)
                num_known = len(known.labels)
                features = np.concatenate([tested.features, known.features])
                tested = tested._replace(features=features, labels=np.concatenate([tested.labels, known.labels]))
            return learned, tested

        parts: dict[str, Parts]
        if isinstance(model, PretrainedModel):
            parts, notes = self._of_own_model(model, ask)
        else:
            parts, notes = {"_embedding": ask(model.for_scores())}, []
        probes: dict[str, Probe] = {}
        for ending, part in parts.items():
            if ending == "_start" and part is parts[""]:
                probes[ending] = probes[""]
                continue
            (learned, labels, *_), (tested, test_labels, *_) = part
            probes[ending] = linear_probe(
                *(learned, labels, tested, test_labels),
                num_classes=len(classes.class_names),
                candidates=classes.candidates,
                seed=self.seed,
                device=torch.device("cuda" if model.is_on_gpu else "cpu"),
                watch=watch,
                work=f"probing {ending.strip('_') or 'tower'}",
            )
        learned_part, answered = next(iter(parts.values()))
        count = len(answered.labels) - num_known
        correct = {ending: probe.correct[:count] for ending, probe in probes.items()}
        data.keep(hits_by_score(correct), answered.ids)
        further: dict[str, Interval | float] = {f"penalty{ending}": probe.penalty for ending, probe in probes.items()}
        for ending, probe in probes.items() if num_known else ():
            further |= beside(f"top1_accuracy{ending}", probe.correct[None, :count], probe.correct[None, count:])
        tested_part = answered._replace(features=answered.features[:count], labels=answered.labels[:count])
        return self.record(test, correct, (learned_part, tested_part), classes, notes, further)

    def _of_own_model(self, model: "PretrainedModel", ask: Ask) -> tuple[dict[str, Parts], list[str]]:
        """Features by the ending of their metrics: of the tower, of its start, and the embedding; and what to note."""
        own: Tower = getattr(model.model, f"{self.modality}_encoder")
        start, tokenizer = self._start(model) if self.against_start else (None, model.tokenizer)
        parts, notes = self.before_and_after(
            own, start, lambda tower: ask(self._bare(model, tower, model.tokenizer if tower is own else tokenizer))
        )
        return {**parts, "_embedding": self._embedding(model, parts[""], ask)}, notes

    def _start(self, model: "PretrainedModel") -> "tuple[Tower | None, Tokenizer]":
        from pocketclip.models.origin.start import starting_image_encoder, starting_text_encoder

        if self.modality == "image":
            return starting_image_encoder(model.config), model.tokenizer
        return starting_text_encoder(model.config, model.tokenizer) or (None, model.tokenizer)

    def _bare(self, model: "PretrainedModel", encoder: "Tower", tokenizer: Tokenizer) -> Asked:
        """A tower alone, as exact as scores ask for, on the model's device."""
        from torch import nn

        from pocketclip.models.bare import bare_tower
        from pocketclip.models.dual_encoder import DualEncoder
        from pocketclip.models.tower import NoTower

        towers: dict[str, Any] = {"image": NoTower(), "text": NoTower()}
        towers[self.modality] = bare_tower(model.model, encoder, self.modality)
        bare = DualEncoder(towers["image"], towers["text"], nn.Identity(), nn.Identity())
        return Asked.of(bare, model, tokenizer, heads=False)

    def _embedding(self, model: "PretrainedModel", towers: Parts, ask: Ask) -> Parts:
        """The head on the tower's features, or the whole way again where a shared encoder lies between."""
        if model.model.shared_encoder is not None:
            return ask(model.for_scores())
        from pocketclip.models.running.runner import project

        head: nn.Module = getattr(model.model, f"{self.modality}_head").to(model.device).eval()
        train, test = (part._replace(features=project(head, part.features, model.device)) for part in towers)
        return train, test
