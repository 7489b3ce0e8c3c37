"""Ends a stage when its time is over, schedule included: its steps are planned from the speed that is measured.

The first plan comes with the first steps, of which the very first do not count, since they are slow. It is looked at
again after twice as many steps each, and then after half of those that are left: a machine that stays as fast as it
was keeps its plan, and one that does not gets another number of steps. How far the schedule is, is the share of the
plan that is done; it goes on from there at the new pace, so that it has neither jumps nor an end cut off.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pocketclip import distributed
from pocketclip.errors import BudgetTooSmallError
from pocketclip.train import interrupt
from pocketclip.train.config import ENDLESS

WARM_UP = 3
"""Steps that say nothing of the speed, where there are others."""
TOLERANCE, TOLERANCE_RESUMED = 0.005, 0.03
"""Of the steps; a plan that is no more off is kept. One from a checkpoint is kept longer, so that resuming is exact."""
RECENT = 200
"""Steps whose speed says how fast the next ones are."""


class Spent:
    """The seconds of a run without its pauses: those before a checkpoint that it goes on from, and those since."""

    def __init__(self, started: float | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._before, self._since = 0.0, clock() if started is None else started

    def seconds(self) -> float:
        """Until now."""
        return self._before + self.clock() - self._since

    def go_on(self, seconds: float) -> None:
        """From a checkpoint of so many seconds: what this process did until now was there already, or is repeated."""
        self._before, self._since = seconds, self.clock()

    def pause(self, seconds: float) -> None:
        """Leave out so many seconds, in which the process was stopped."""
        self._before -= seconds


@dataclass
class StepPlan:
    """How many steps a stage takes, and how its schedule goes on from the step of its newest change."""

    num_steps: int = ENDLESS
    since: int = 0
    """The step from which on the rest of the schedule is spread evenly."""
    share: float = 0.0
    """Of the schedule, done at that step."""

    def told(self, step: int) -> int:
        """The number of steps as progress shows it, one more than are done before anything is planned."""
        return step + 1 if self.num_steps == ENDLESS else self.num_steps

    def position(self, step: int) -> float:
        """The step of a plan of `num_steps` without changes at which the schedule would be as far as it is."""
        if self.num_steps == ENDLESS or not self.since:
            return step
        left = max(1, self.num_steps - self.since)
        return self.num_steps * (self.share + (1 - self.share) * (step - self.since) / left)

    def changed(self, step: int, num_steps: int) -> "StepPlan":
        """From this step on another number of steps in all; the first one counts from the start."""
        if self.num_steps == ENDLESS or step <= 2 * WARM_UP:
            return StepPlan(num_steps)
        return StepPlan(num_steps, step, min(1.0, self.position(step) / self.num_steps))


class CountedSteps:
    """A stage that a number of steps ends; `TimeBudget` fills in what a time needs."""

    def first_plan(self, num_steps: int) -> StepPlan:
        """Of a stage that its own settings end after so many steps."""
        return StepPlan(num_steps)

    def begin(self, step: int, plan: StepPlan, *, steps_per_evaluation: int | None) -> None:
        """Before the first step of this process; only the last one is evaluated for None, and none for 0."""

    def after_step(self, step: int, seconds: float, plan: StepPlan) -> StepPlan:
        """The plan from here on, `step` steps being done of which the last one took so long; on all ranks the same."""
        return plan

    def evaluated(self, seconds: float) -> None:
        """One evaluation took so long."""


@dataclass
class TimeBudget(CountedSteps):
    """Plans the steps of one stage.

    Args:
        seconds: of the run, as `spent` counts them, at which the stage has to be over.
        spent: of the run so far.
        after: what has to be done behind the stage and within its budget, in seconds.
        evaluation_seconds: of one, until one was measured.
        too_small: says what is wrong with a budget for which one batch is too much, from the seconds that it takes.
    """

    seconds: Callable[[], float]
    spent: Spent
    after: float = 0.0
    evaluation_seconds: float = 0.0
    too_small: Callable[[float], str] = "the budget is too small for one batch, which takes {:.0f} seconds".format
    _at_most: int = ENDLESS
    _every: int | None = None
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _due: int = 1
    _first: int = 0
    """Steps of the stage before this process."""
    _started: float = 0.0
    _own: float = 0.0
    """Of the steps and evaluations that this process has seen."""
    _tolerance: float = TOLERANCE

    def first_plan(self, num_steps: int) -> StepPlan:
        self._at_most = num_steps
        return StepPlan()

    def begin(self, step: int, plan: StepPlan, *, steps_per_evaluation: int | None) -> None:
        self._first, self._started, self._due = step, self.spent.seconds(), step + 1
        self._every = steps_per_evaluation
        self._tolerance = TOLERANCE if plan.num_steps == ENDLESS else TOLERANCE_RESUMED

    def after_step(self, step: int, seconds: float, plan: StepPlan) -> StepPlan:
        seconds = self._without_pause(seconds, sum(self._times) / max(1, len(self._times)))
        self._own += seconds
        if step - self._first == WARM_UP + 1:
            self._times.clear()
        self._times.append(seconds)
        if step < self._due:
            return plan
        planned = int(distributed.gather_objects(self._planned(step))[0])
        if step == 1 and planned == 0:
            raise BudgetTooSmallError(self.too_small(self._end(1, 1)))
        planned = min(max(planned, step), self._at_most)
        steady = plan.num_steps != ENDLESS and abs(planned - plan.num_steps) <= self._tolerance * plan.num_steps
        if (step - self._first > WARM_UP and not steady) or planned == step:
            plan = plan.changed(step, planned)
        left = plan.num_steps - step if plan.num_steps != ENDLESS else 0
        self._due = step + 1 if step - self._first <= WARM_UP else min(2 * step - self._first, step + max(1, left // 2))
        return plan

    def _without_pause(self, seconds: float, usual: float) -> float:
        """What took so long, as long as usual if the process was stopped meanwhile."""
        if not interrupt.CONTINUED.is_set():
            return seconds
        interrupt.CONTINUED.clear()
        self.spent.pause(max(0.0, seconds - usual))
        return min(seconds, usual)

    def evaluated(self, seconds: float) -> None:
        seconds = self._without_pause(seconds, self.evaluation_seconds)
        self._own += seconds
        self.evaluation_seconds = seconds

    def _planned(self, step: int) -> int:
        """The number of steps that ends nearest to the budget; 0 where even this one was far too much."""
        allowed = self.seconds()
        if step == 1 and self._end(step, step) > 1.03 * allowed:
            return 0
        low, high = step, step + max(1, int(2 * (allowed - self.spent.seconds()) / max(self._step_seconds(step), 1e-9)))
        while low < high:  # the last one that is over in time, or by less than half a step late
            middle = (low + high + 1) // 2
            in_time = self._end(step, middle) - self._step_seconds(step) / 2 <= allowed
            low, high = (middle, high) if in_time else (low, middle - 1)
        return low

    def _step_seconds(self, step: int) -> float:
        """Of a step, with its part of what lies between steps, such as checkpoints."""
        between = (self.spent.seconds() - self._started - self._own) / (step - self._first)
        return sum(self._times) / len(self._times) + max(0.0, between)

    def _end(self, step: int, num_steps: int) -> float:
        """When all would be over with so many steps."""
        every, evaluations = self._every, 1
        if every == 0:
            evaluations = 0
        elif every is not None:
            evaluations = num_steps // every - (step - 1) // every + (num_steps % every > 0)
        steps = (num_steps - step) * self._step_seconds(step)
        return self.spent.seconds() + steps + evaluations * self.evaluation_seconds + self.after
