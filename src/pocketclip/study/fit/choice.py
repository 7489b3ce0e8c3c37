"""Chooses what is trained: of all that keeps the limits, what scores most by the records in the time there is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pocketclip.errors import UserError, pip_install
from pocketclip.study.fit.candidates import Candidate, Table, candidates
from pocketclip.study.fit.limits import Limits, told_bytes, told_time
from pocketclip.study.fit.plans import Plan, Planner


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
    verb: str

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
        found.append(Limit("--size", asked.size_bytes, scale.size_bytes, told_bytes, "takes"))
    memory = min(available_memory, asked.memory_bytes or available_memory)
    option = "--memory" if asked.memory_bytes is not None else "the memory that is free here"
    if memory != float("inf"):
        found.append(Limit(option, memory, scale.memory_bytes, told_bytes, "takes"))
    if asked.latency_ms is not None:
        found.append(Limit("--latency", asked.latency_ms, scale.latency_ms, lambda got: f"{got:.1f} ms", "takes"))
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
        f"{told_time(spent)}; give at least --budget {_rounded_up(least)}s."
    )


def _no_tower(limits: Sequence[Limit], able: Sequence[Candidate]) -> UserError:
    """Says which limit is too narrow, and the nearest that can be had."""
    within: Sequence[Candidate] = able
    for number, limit in enumerate(limits):
        keeping = [one for one in within if limit.keeps(one)]
        if not keeping:
            nearest = min(within, key=limit.taken)
            beside = " and ".join(other.option for other in limits[:number] if other.option.startswith("--"))
            within_those = f" that keep {beside}" if beside else ""
            raise UserError(
                f"{limit.option} {limit.told(limit.most)}: no tower keeps that here; the nearest of those"
                f"{within_those} {limit.verb} {limit.told(limit.taken(nearest))} ({nearest}). "
                f"Give at least that much, or leave {limit.option} out."
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


def _rounded_up(seconds: float) -> int:
    """To 5 seconds."""
    return 5 * int(seconds // 5 + 1)
