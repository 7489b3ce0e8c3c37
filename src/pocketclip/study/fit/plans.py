"""What a candidate gives within a time on this machine: how many pictures, how many epochs, and how long each part."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from pocketclip.run.fit import FEWEST, fewest_held_out
from pocketclip.study.fit.candidates import ALL_LAYERS, Candidate, Table
from pocketclip.study.fit.look import Data, Speeds

LARGEST_HELD_OUT, ENOUGH_HELD_OUT = 1000, 200
"""Pictures that are held out at most, and until how many a tenth of all is and not a twentieth."""
HEAD_EPOCHS, FEWEST_HEAD_EPOCHS, HEAD_STEPS = 12, 8, 40
"""Passes over stored features that are of use; where an epoch has few steps there are more, for so many steps."""
MOST_HEAD_EPOCHS = 30
TUNED_BATCH = 128
REFERENCE_WORK = 6e-4
"""Seconds of a `core_ms` on two cores of an AMD EPYC, where the following was measured."""
HEAD_PICTURE, HEAD_STEP, START, END = 6e-5, 0.012, 3.0, 3.0
"""Seconds there: of a picture and of a step in training heads, of loading towers, and of record, bundle and gallery."""
SPARE = 0.9
"""Share of the time that is planned, since caches cannot be cut short."""
EXACT = 2.0
"""Times as long as in bfloat16 is float32, which what is measured is computed in."""
BANK_PICTURES, BANK_CAPTIONS = 500, 2000
"""In the bank that hubs are corrected with: more gain little (docs/log.md) and would take their time."""


@dataclass(frozen=True)
class Plan:
    """A candidate with how it is trained here."""

    candidate: Candidate
    num_pictures: int
    flipped: bool
    """Whether heads learn from mirrored pictures, too."""
    head_epochs: int
    tuned_epochs: float
    points: float
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds from now on."""
        return sum(self.seconds.values())


def held_out(num_pictures: int) -> int:
    """Pictures of all that are measured on."""
    share = max(min(0.1 * num_pictures, ENOUGH_HELD_OUT), 0.05 * num_pictures)
    return min(LARGEST_HELD_OUT, round(max(fewest_held_out(num_pictures), share)))


def head_batch(num_pictures: int) -> tuple[int, float]:
    """Batch size and learning rate of heads: few pictures need steps more than negatives."""
    if num_pictures < 1000:
        return 32, 0.001
    return (128, 0.0015) if num_pictures < 3000 else (256, 0.002)


class Planner:
    """Plans candidates for the same data and machine.

    Args:
        seconds: that are left of the budget.
        exact: times as long as usual is what scores are computed in.
    """

    def __init__(self, table: Table, data: Data, speeds: Speeds, seconds: float, *, exact: float = EXACT) -> None:
        self.table, self.data, self.speeds, self.left, self.exact = table, data, speeds, seconds, exact
        self.slowness = max(0.2, speeds.work / REFERENCE_WORK)

    def best(self, candidate: Candidate) -> Plan | None:
        """The plan with the most points; None where nothing useful fits."""
        return max(self._plans(candidate), key=lambda plan: plan.points, default=None)

    def least(self, candidate: Candidate) -> float:
        """Seconds of the shortest training that is worth it."""
        count = min(self.data.num_pictures, 64)
        return self._heads(candidate, count, flipped=False, epochs=self._epochs(count, few=True)).total / SPARE

    def tuning_seconds(self, candidate: Candidate) -> float:
        """Of the shortest training of both towers that is worth it, on all pictures."""
        plan = self._tuned(candidate, self.data.num_pictures, self.table.tuning.fewest_epochs)
        return plan.total

    def _plans(self, candidate: Candidate) -> Iterator[Plan]:
        if candidate.tuned:
            yield from self._tuned_plans(candidate)
            return
        for flipped in (False, True):
            count = self._most_pictures(candidate, flipped)
            if count < min(self.data.num_pictures, 2 * FEWEST):
                continue
            whole = self._heads(candidate, count, flipped=flipped, epochs=self._epochs(count))
            if whole.total > SPARE * self.left:
                whole = self._heads(candidate, count, flipped=flipped, epochs=self._epochs(count, few=True))
            yield whole

    def _most_pictures(self, candidate: Candidate, flipped: bool) -> int:
        """As many of all as fit with the fewest epochs."""
        low, high = 0, self.data.num_pictures
        while low < high:
            middle = (low + high + 1) // 2
            plan = self._heads(candidate, middle, flipped=flipped, epochs=self._epochs(middle, few=True))
            low, high = (middle, high) if plan.total <= SPARE * self.left else (low, middle - 1)
        return low

    def _tuned_plans(self, candidate: Candidate) -> Iterator[Plan]:
        tuning, count = self.table.tuning, self.data.num_pictures
        if self.speeds.tuning is None:
            return
        while count >= tuning.fewest_pictures:
            shortest = self._tuned(candidate, count, tuning.fewest_epochs)
            if shortest.total <= self.left:
                an_epoch = self._tuned(candidate, count, tuning.fewest_epochs + 1).total - shortest.total
                more = (self.left - shortest.total) / an_epoch
                yield self._tuned(candidate, count, min(tuning.most_epochs, tuning.fewest_epochs + more))
            count //= 2

    def _epochs(self, count: int, *, few: bool = False) -> int:
        steps = max(1, (count - held_out(count)) // head_batch(count)[0])
        wanted = min(MOST_HEAD_EPOCHS, max(HEAD_EPOCHS, math.ceil(HEAD_STEPS / steps)))
        return max(FEWEST_HEAD_EPOCHS, wanted // 2) if few else wanted

    def _heads(self, candidate: Candidate, count: int, *, flipped: bool, epochs: int) -> Plan:
        speeds, held = self.speeds, held_out(count)
        learned, text = count - held, candidate.text.num_layers / ALL_LAYERS * speeds.caption
        images = (learned * (1 + flipped) + held * self.exact) * candidate.image.core_ms * speeds.work
        captions = (learned + held * self.exact) * self.data.captions_per_picture * text
        steps = max(1, learned // head_batch(count)[0])
        training = epochs * (learned * HEAD_PICTURE + steps * HEAD_STEP) * self.slowness
        seconds = {
            "start": START * self.slowness + count * speeds.opening,
            "caches": count * speeds.decoding + images + captions,
            "heads": training,
            "hubs": self.exact * self._bank_seconds(candidate, learned, text),
            "end": END * self.slowness + held * self.data.captions_per_picture * 2e-4 * self.slowness,
        }
        lost = self.table.points_a_doubling * math.log2(self.table.pictures / max(count, 1))
        points = self.table.heads_points + candidate.points - lost + flipped * self.table.flip_points
        points -= 0.01 * candidate.half + (0.3 if epochs < HEAD_EPOCHS else 0)
        return Plan(candidate, count, flipped, epochs, 0.0, points, seconds)

    def _bank_seconds(self, candidate: Candidate, learned: int, text: float) -> float:
        """Of embedding the bank, as fast as usual; `text` are the seconds of a caption."""
        pictures = min(BANK_PICTURES, learned)
        captions = min(BANK_CAPTIONS, round(learned * self.data.captions_per_picture))
        return pictures * (self.speeds.decoding + candidate.image.core_ms * self.speeds.work) + captions * text

    def _tuned(self, candidate: Candidate, count: int, epochs: float) -> Plan:
        speeds, held = self.speeds, held_out(count)
        assert speeds.tuning is not None
        first = self._heads(candidate, count, flipped=False, epochs=8)
        once = held * (
            speeds.decoding + candidate.image.core_ms * speeds.work + self.data.captions_per_picture * speeds.caption
        )
        seconds = {
            **first.seconds,
            "towers": epochs * (count - held) * speeds.tuning,
            "evaluation": (math.ceil(epochs / 2) + self.exact) * once,
        }
        points = first.points + self.table.tuning.points(epochs)
        return Plan(candidate, count, False, first.head_epochs, epochs, points, seconds)
