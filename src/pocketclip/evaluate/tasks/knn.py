"""k nearest neighbours: the class that most of the most similar training images have."""

from typing import Literal

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from pocketclip.embedder import Embedder, Floats
from pocketclip.errors import UserError
from pocketclip.evaluate.classification import MEAN_CLASS, accuracies, class_scores, item_shares
from pocketclip.evaluate.frozen import Examples, FrozenTask, beside
from pocketclip.evaluate.neighbours import Votes, neighbour_votes, vote_ranks
from pocketclip.evaluate.task_data import TaskData
from pocketclip.evaluate.tower import among
from pocketclip.records import EvalResult, Interval, percent
from pocketclip.stages.watch import SILENT, Watch

PLAIN = "top1_accuracy_plain_vote"
LABELS = {
    "top1_accuracy": "top-1",
    "top5_accuracy": "top-5",
    MEAN_CLASS: "mean over classes of top-1",
    PLAIN: "top-1 by a plain vote",
    "top1_accuracy_in_distribution": "top-1 in distribution",
    "top1_accuracy_gap": "the gap to it",
    "chance": "guessing",
    "commonest_class_accuracy": "always the commonest class",
}


class Knn(FrozenTask):
    """Accuracy of the vote of the k nearest training images, by likeness and plainly; nothing is fitted."""

    kind: Literal["knn"] = "knn"
    heading = "Nearest neighbours"
    meaning = (
        "Each of the k nearest training images votes for its class with weight exp(cosine / temperature); top-1: the "
        "right class gets most; top-5: it is among the first five. Ties count against the model."
    )

    k: PositiveInt = 20
    """How many neighbours vote."""
    temperature: PositiveFloat = 0.07
    """Of the weights; the smaller, the more the nearest count."""

    def run(self, model: Embedder, data: TaskData, watch: Watch = SILENT) -> EvalResult:
        given = self.examples(model, data, watch)
        learned = given.learned.features
        (tested, labels, _, ids), classes = given.tested, given.classes
        asked = classes.candidates
        names = [classes.class_names[number] for number in asked]
        if self.k > len(learned):
            raise UserError(
                f"{data.images[0].name}: has {len(learned):,} training images with a class, and {self.k:,} should "
                f"vote; give more, or --set k={len(learned)}."
            )
        votes = self._votes(given, tested)
        labels = np.searchsorted(asked, labels)
        (ranks, predicted), (plain, _) = (vote_ranks(own[:, asked], labels) for own in votes)
        data.keep({**item_shares(ranks, labels, len(names)), PLAIN: plain == 0}, ids)
        metrics: dict[str, Interval | float] = {**accuracies(ranks, labels, len(names))}
        metrics[PLAIN] = accuracies(plain, None, len(names))["top1_accuracy"]
        if given.reference is not None:
            known, right = given.reference.features, np.searchsorted(asked, given.reference.labels)
            of_known, _ = vote_ranks(self._votes(given, known)[0][:, asked], right)
            metrics |= beside("top1_accuracy", (ranks == 0)[None], (of_known == 0)[None])
        return EvalResult(
            task=self.kind,
            dataset=data.images[1].name,
            split="all",
            num_images=len(labels),
            num_captions=0,
            metrics={**metrics, **given.sizes, "k": float(self.k), "temperature": self.temperature},
            notes=given.notes,
            classes=class_scores(labels, predicted, names),
        )

    def _votes(self, given: Examples, tested: Floats) -> tuple[Votes, Votes]:
        """Weighted and plain ones of all classes that were learned."""
        return neighbour_votes(
            *(given.learned.features, given.learned.labels, tested),
            num_classes=len(given.classes.class_names),
            k=self.k,
            temperature=self.temperature,
        )

    def title(self, result: EvalResult) -> str:
        k, learned = result.metrics["k"], result.metrics["num_training_examples"]
        return (
            f"{self.heading}, {k:g} of {learned:,.0f}, on {self.counts(result)} {among(result)}; "
            "percent [95 % interval]"
        )

    def rows(self, result: EvalResult) -> list[list[str]]:
        """A row for each score, then what guessing and always giving one answer would score."""
        return [[label, percent(result.metrics[name])] for name, label in LABELS.items() if name in result.metrics]
