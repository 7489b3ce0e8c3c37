"""Threads are looked at again where steps get slower than they were, and every change is noted."""

from collections.abc import Iterator

import pytest

from pocketclip.models.running.threads import Threads
from pocketclip.run import pace
from pocketclip.run.pace import Paced
from pocketclip.stages.watch import Watch


class Told(Watch):
    """Remembers all."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def work(self, name: str, done: int, total: int, broken: object = ()) -> None:
        self.told.append(name)

    def note(self, message: str) -> None:
        self.told.append(message)


class FakeThreads(Threads):
    """Gives what the test says."""

    def __init__(self) -> None:
        self.changes: Iterator[str | None] = iter(())
        self.looks = 0
        self.lowered = False

    @property
    def is_lowered(self) -> bool:
        return self.lowered

    def fit(self) -> str | None:
        self.looks += 1
        return next(self.changes, None)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> FakeThreads:
    threads = FakeThreads()
    monkeypatch.setattr(pace, "THREADS", threads)
    monkeypatch.setattr(pace.time, "monotonic", iter(float(100 * number) for number in range(10_000)).__next__)
    return threads


def steps(paced: Paced, *speeds: float, stage: str = "train") -> None:
    for number, speed in enumerate(speeds, 1):
        paced.step(stage, number, 100, speed, {})


def test_nothing_is_looked_at_while_steps_keep_their_pace(threads: FakeThreads) -> None:
    told = Told()
    paced = Paced(told)
    steps(paced, 10, 100, 90, 110, 20, 100, 100, 80, 75, 70, 20, 90)  # one slow step is none
    paced.work("encoding", 1, 2)
    assert threads.looks == 0
    assert paced.notes == []
    assert told.told == ["encoding"]


def test_slower_steps_are_a_reason_and_a_change_is_noted(threads: FakeThreads) -> None:
    threads.changes = iter(["1 of 2 threads, as other work kept 1.0 of 2 cores busy"])
    told = Told()
    paced = Paced(told)
    steps(paced, 100, 100, 100, 40, 40)
    assert threads.looks == 1
    assert paced.notes == ["train, from step 6: 1 of 2 threads, as other work kept 1.0 of 2 cores busy"]
    assert told.told == [f"{paced.notes[0]}."]


def test_another_stage_has_a_pace_of_its_own(threads: FakeThreads) -> None:
    paced = Paced(Watch())
    steps(paced, 1000, 1000, 1000, 1000, stage="heads first")
    steps(paced, 50, 50, 50, 50)
    assert threads.looks == 0


def test_lost_threads_are_asked_for_again(threads: FakeThreads) -> None:
    threads.lowered = True
    steps(Paced(Watch()), 100, 100, 100, 100)
    assert threads.looks >= 1


def test_at_the_start_the_load_is_looked_at(threads: FakeThreads) -> None:
    threads.changes = iter(["1 of 2 threads"])
    paced = Paced(Watch())
    paced.fit()
    assert paced.notes == ["at the start: 1 of 2 threads"]
