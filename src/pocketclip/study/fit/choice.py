"""Chooses what is trained: of all that keeps the limits, what scores most by the records in the time; and says why."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pocketclip.errors import UserError, pip_install
from pocketclip.hardware import describe_hardware
from pocketclip.run.budget import rounded_up
from pocketclip.study.fit.candidates import Candidate, Table, candidates
from pocketclip.study.fit.limits import Limits, told_bytes, told_time
from pocketclip.study.fit.look import Data, Speeds
from pocketclip.study.fit.plans import Plan, Planner, held_out


class Weighing(Protocol):
    """What a candidate takes; see `Scale`."""

    def size_bytes(self, candidate: Candidate) -> float:
        """Of the bundle."""

    def latency_ms(self, candidate: Candidate) -> float:
        """Of one picture and one sentence."""

    def memory_bytes(self, candidate: Candidate) -> float:
        """Of training."""


@dataclass(frozen=True)
class Limit:
    """One of the limits, how much a candidate takes of it, and how that is told."""

    option: str
    most: float
    taken: Callable[[Candidate], float]
    told: Callable[[float], str]

    @property
    def is_asked(self) -> bool:
        """Whether it was typed; the memory that is free here was not."""
        return self.option.startswith("--")

    def keeps(self, candidate: Candidate) -> bool:
        """Whether a candidate stays within."""
        return self.taken(candidate) <= self.most


@dataclass(frozen=True)
class Choice:
    """What is trained, and what was passed over for it."""

    plan: Plan
    limits: tuple[Limit, ...]
    better: str = ""
    """What more time, or another package, would bring; empty where nothing is known."""


def limits_of(asked: Limits, scale: Weighing, available_memory: float) -> tuple[Limit, ...]:
    """Those that were asked for, and the memory that this machine has."""
    found = []
    if asked.size_bytes is not None:
        found.append(Limit("--size", asked.size_bytes, scale.size_bytes, told_bytes))
    if asked.memory_bytes is not None:
        found.append(Limit("--memory", asked.memory_bytes, scale.memory_bytes, told_bytes))
    if available_memory != float("inf"):
        found.append(Limit("the memory that is free here", available_memory, scale.memory_bytes, told_bytes))
    if asked.latency_ms is not None:
        found.append(Limit("--latency", asked.latency_ms, scale.latency_ms, lambda got: f"{got:.1f} ms"))
    return tuple(found)


def choose(table: Table, planner: Planner, limits: Sequence[Limit], budget_seconds: float, spent: float) -> Choice:
    """The best plan.

    Raises:
        UserError: no package is there, no tower keeps a limit, or the time is too short for any; it says the nearest.
    """
    everything = list(candidates(table))
    installed = [one for one in everything if not one.missing]
    if not installed:
        needed = " ".join(next(one for one in everything if not one.tuned).missing)
        raise UserError(f"The towers' weights are not installed. Install them with: {pip_install(needed)}")
    plans = sorted(filter(None, map(planner.best, installed)), key=lambda plan: (-plan.points, plan.total))
    for plan in plans:
        if all(limit.keeps(plan.candidate) for limit in limits):
            return Choice(plan, tuple(limits), _what_more_would_bring(table, planner, plan, everything, limits))
    able = [one for one in installed if all(limit.keeps(one) for limit in limits)]
    if not able:
        raise _no_tower(limits, installed)
    least = spent + min(map(planner.least, able))
    raise UserError(
        f"--budget {told_time(budget_seconds)}: too short for anything here, where looking at data and machine took "
        f"{told_time(spent)}; give at least --budget {5 * int(least // 5 + 1)}s."
    )


def three_lines(
    choice: Choice,
    data: Data,
    speeds: Speeds,
    image_core_ms: float,
    budget_seconds: float,
    *,
    bank_bytes: int = 0,
) -> list[str]:
    """Data and machine, the choice with its reason, and the price; `bank_bytes` are those of the bank against hubs."""
    plan = choice.plan
    pictures = 1 / (speeds.decoding + speeds.work * image_core_ms)
    here = (
        f"Here: {data.num_pictures:,} pictures with {data.captions_per_picture:.1f} captions each; "
        f"{describe_hardware()}: {pictures:,.0f} pictures and {1 / speeds.caption:,.0f} captions a second."
    )
    how = "heads over the frozen towers"
    if plan.candidate.tuned:
        how = f"heads first, then both towers for {plan.tuned_epochs:.0f} epochs"
    of_all = f", on {plan.num_pictures:,} of the pictures" if plan.num_pictures < data.num_pictures else ""
    kept = [limit.option for limit in choice.limits if limit.is_asked]
    within = " and ".join([told_time(budget_seconds), *kept])
    chosen = f"Choice: {plan.candidate}, {how}{of_all}: the best on record within {within}; {choice.better}."
    parts = ", ".join(f"{what} {told_time(seconds)}" for what, seconds in plan.seconds.items())
    beside = {"--size": bank_bytes}
    taken = {limit.option: limit.taken(plan.candidate) + beside.get(limit.option, 0) for limit in choice.limits}
    amounts = "".join(
        f"; {limit.option.lstrip('-')} {limit.told(taken[limit.option])} of {limit.told(limit.most)}"
        for limit in choice.limits
        if limit.is_asked
    )
    learned = plan.num_pictures - held_out(plan.num_pictures)
    takes = (
        f"Takes: about {told_time(plan.total)} ({parts}); {learned:,} pictures to learn from and "
        f"{held_out(plan.num_pictures):,} to be measured on{amounts}."
    )
    return [here, chosen, takes]


def _no_tower(limits: Sequence[Limit], able: Sequence[Candidate]) -> UserError:
    """Says which limit is too narrow, and the nearest that can be had."""
    within: Sequence[Candidate] = able
    for number, limit in enumerate(limits):
        keeping = [one for one in within if limit.keeps(one)]
        if not keeping:
            nearest = min(within, key=limit.taken)
            needed = limit.taken(nearest)
            beside = " and ".join(other.option for other in limits[:number] if other.is_asked)
            of_those = f" of those that keep {beside}" if beside else ""
            remedy = "End other work on this machine."
            if limit.is_asked:
                enough = limit.told(rounded_up(1.001 * needed)).replace(" ", "")
                remedy = f"Give at least {limit.option} {enough}, or leave it out."
            raise UserError(
                f"{limit.option} {limit.told(limit.most)}: no tower keeps that here; the nearest{of_those} takes "
                f"{limit.told(needed)} ({nearest}). {remedy}"
            )
        within = keeping
    raise AssertionError("each limit is kept by some candidate that keeps the ones before")


def _what_more_would_bring(
    table: Table, planner: Planner, plan: Plan, everything: Iterable[Candidate], limits: Sequence[Limit]
) -> str:
    """The next step up: training both towers, all pictures, a tower that is not installed, or nothing known."""
    if plan.num_pictures < planner.data.num_pictures:
        return "more time would let it learn from more of the pictures"
    lacking = [one for one in everything if one.missing and not one.tuned and one.points > plan.candidate.points]
    if not plan.candidate.tuned and lacking:
        best = max(lacking, key=lambda one: one.points)
        return f"{best.image} would be better: {pip_install(' '.join(best.missing))}"
    if plan.candidate.tuned:
        enough = plan.tuned_epochs >= table.tuning.most_epochs
        return "more time is not known to help" if enough else "more time would train the towers for longer"
    tuned = [one for one in everything if one.tuned and all(limit.keeps(one) for limit in limits)]
    if planner.data.num_pictures < table.tuning.fewest_pictures:
        return "more pictures would help, and more time would not"
    if not tuned or planner.speeds.tuning is None:
        return "more time would go into training the towers, too"
    needed = min(map(planner.tuning_seconds, tuned))
    return f"training both towers, too, would take {told_time(needed)} or more"
