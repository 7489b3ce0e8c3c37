"""Linear probes of one tower's frozen features, before training and after, and of the embedding behind it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt

from pocketclip.data.labels import Classes
from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.evaluate.encoded import EMBEDDING, TOWER, MakeEncoder, whole
from pocketclip.evaluate.frozen import beside, part_with_classes
from pocketclip.evaluate.task_data import TaskData
from pocketclip.evaluate.tower import (
    Asked,
    Examples,
    Parts,
    Sweep,
    TowerTask,
    encode_examples,
    hits_by_score,
    matched_classes,
)
from pocketclip.head import Head
from pocketclip.records import EvalResult, Interval
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import nn

    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.evaluate.sweeps import Probe
    from pocketclip.models.tower import Tower

Ask = Callable[[str, Embedder | Asked], Parts]


class ProbeTask(TowerTask):
    """A linear classifier of frozen features: of a model of ours before and behind its head, else of embeddings."""

    sweep: Sweep = "ours"
    """How the regulariser is chosen: ours, or the published sweeps `clip` and `scaling_down`."""
    seed: NonNegativeInt = 0
    """Of the part that the regulariser is chosen on."""

    def like_training(self, train: Examples, classes: Classes) -> tuple[Source, npt.NDArray[np.int64]] | None:
        """Images that the test is set beside, with their classes, where they were asked for."""
        del train, classes
        return None

    def encoders(self, model: Embedder) -> dict[str, MakeEncoder]:
        from pocketclip.asked.bundle import PretrainedModel

        if self.modality == "text":
            return {}
        embedding: dict[str, MakeEncoder] = {EMBEDDING: whole}
        if not isinstance(model, PretrainedModel):
            return embedding
        own, tokenizer = model.model.image_encoder, model.tokenizer
        tower: dict[str, MakeEncoder] = {TOWER: lambda _: self._bare(model, own, tokenizer).encode_images}
        return tower if model.model.shared_encoder is None else {**tower, **embedding}

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        """See `Task`; another library's towers are not known apart, so of its models the embedding is probed."""
        from pocketclip.asked.bundle import PretrainedModel

        train, test = data.texts if self.modality == "text" else data.images
        classes = matched_classes(train, test)
        reference = self.like_training(train, classes)
        num_known = 0

        def ask(name: str, encodes: Embedder | Asked) -> Parts:
            nonlocal num_known
            learned, tested = self._parts(data, model, name, encodes, classes, watch)
            if reference is not None:  # answered together, and told apart below
                known = encode_examples(encodes, *reference, "in-distribution", watch)
                num_known = len(known.labels)
                features = np.concatenate([tested.features, known.features])
                tested = tested._replace(features=features, labels=np.concatenate([tested.labels, known.labels]))
            return learned, tested

        parts: dict[str, Parts]
        exact = data.encoded.exact(model)
        if isinstance(exact, PretrainedModel):
            parts, notes = self._of_own_model(exact, ask)
        else:
            parts, notes = {"_embedding": ask(EMBEDDING, exact)}, []
        probes = self._probes(parts, classes, model, watch)
        learned_part, answered = next(iter(parts.values()))
        count = len(answered.labels) - num_known
        correct = {ending: probe.correct[:count] for ending, probe in probes.items()}
        data.keep(hits_by_score(correct), answered.ids)
        if self.keeps_head:
            of_embedding = probes["_embedding"]
            data.head = Head(
                *(of_embedding.weight, of_embedding.bias, classes.class_names), model.name, model.image_identity()
            )
        further: dict[str, Interval | float] = {
            f"{name}{ending}": value for ending, probe in probes.items() for name, value in probe.chosen.items()
        }
        for ending, probe in probes.items() if num_known else ():
            further |= beside(f"top1_accuracy{ending}", probe.correct[None, :count], probe.correct[None, count:])
        tested_part = answered._replace(features=answered.features[:count], labels=answered.labels[:count])
        return self.record(test, correct, (learned_part, tested_part), classes, notes, further)

    def _parts(
        self, data: TaskData, model: Embedder, name: str, encodes: Embedder | Asked, classes: Classes, watch: Watch
    ) -> Parts:
        """Features to learn from and to be tested on; of images by the name of their encoder, for all tasks."""
        both = zip((classes.train, classes.test), ("training", "test"), strict=True)
        if self.modality == "text":
            learned, tested = (
                encode_examples(encodes, examples, labels, which, watch)
                for examples, (labels, which) in zip(data.texts, both, strict=True)
            )
            return learned, tested
        embedded = data.embedded_parts(model, watch, name, lambda _: encodes.encode_images)
        learned, tested = (
            part_with_classes(own, labels, source, which)
            for own, source, (labels, which) in zip(embedded, data.images, both, strict=True)
        )
        return learned, tested

    def _probes(self, parts: dict[str, Parts], classes: Classes, model: Embedder, watch: Watch) -> "dict[str, Probe]":
        """A classifier for each of several features."""
        import torch

        from pocketclip.evaluate.sweeps import linear_probe

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
                sweep=self.sweep,
                seed=self.seed,
                device=torch.device("cuda" if model.is_on_gpu else "cpu"),
                watch=watch,
                work=f"probing {ending.strip('_') or 'tower'}",
            )
        return probes

    def _of_own_model(self, model: "PretrainedModel", ask: Ask) -> tuple[dict[str, Parts], list[str]]:
        """Features by the ending of their metrics: of the tower, of its start, and the embedding; and what to note."""
        own: Tower = getattr(model.model, f"{self.modality}_encoder")
        start, tokenizer = self._start(model) if self.against_start else (None, model.tokenizer)

        def asked(tower: "Tower") -> Parts:
            is_own = tower is own
            return ask(TOWER if is_own else "start", self._bare(model, tower, model.tokenizer if is_own else tokenizer))

        parts, notes = self.before_and_after(own, start, asked)
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
            return ask(EMBEDDING, model)
        from pocketclip.models.running.runner import project

        head: nn.Module = getattr(model.model, f"{self.modality}_head").to(model.device).eval()
        train, test = (part._replace(features=project(head, part.features, model.device)) for part in towers)
        return train, test
