"""Ctrl-C and SIGTERM, as the system sends them."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import torch
from torch import Tensor, nn

from pocketclip.errors import Interrupted, UserError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import CachedTower
from pocketclip.objectives.config import ContrastiveObjectiveConfig
from pocketclip.stages.watch import BrokenItems
from pocketclip.train.config import TrainConfig
from pocketclip.train.interrupt import CONTINUED, listen
from pocketclip.train.loop import Trainer
from pocketclip.types import Features, ImageTextBatch

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Python's own, which a suite that was started in the background does not inherit."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_only_noted(number: signal.Signals) -> None:
    with listen() as request:
        assert not request.is_set()
        send(number)
        assert request.is_set()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.filterwarnings("error")  # of a handler that is gone when its signal is told, Python says so aside
def test_sigcont_that_comes_with_the_signal_is_heard(number: signal.Signals) -> None:
    """`timeout` sends it behind SIGTERM, so that a stopped process hears that one."""
    both = {number, signal.SIGCONT}
    CONTINUED.clear()
    with listen() as request:
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        for each in both:
            send(each)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        assert request.is_set()
        assert CONTINUED.is_set()
    assert signal.getsignal(signal.SIGCONT) is signal.SIG_DFL


@pytest.mark.parametrize("number", SIGNALS)
def test_a_worker_that_is_stopped_with_the_run_is_no_fault_of_it(number: signal.Signals) -> None:
    """As `timeout` and schedulers do, which tell a whole group of processes."""
    worker = RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")
    with pytest.raises(Interrupted, match="DataLoader worker"):
        end_with(worker, number)
    with pytest.raises(RuntimeError):
        end_with(worker)
    with pytest.raises(UserError, match="disk"):
        end_with(UserError("run: cannot be written (the disk is full)."), number)


def end_with(error: Exception, *signals: signal.Signals) -> None:
    """Raise this while listening, behind these signals."""
    with listen():
        for number in signals:
            send(number)
        raise error


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
    with listen() as request:
        send(signal.SIGINT)
        assert not request.is_set()


def test_the_second_ctrl_c_interrupts_at_once() -> None:
    with listen() as request:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert request.is_set()


def how_a_process_ends(*numbers: signal.Signals) -> int:
    """The signal that kills a process which is sent these while it listens; 0 where it lives on."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with listen():
            for number in numbers:
                send(number)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_of_the_same_kind_ends_the_process(number: signal.Signals) -> None:
    assert how_a_process_ends(number) == 0
    assert how_a_process_ends(number, number) == number


@pytest.mark.parametrize("numbers", [SIGNALS, SIGNALS[::-1]], ids=["ctrl-c first", "sigterm first"])
def test_the_second_acts_as_usual_whatever_the_first_was(numbers: list[signal.Signals]) -> None:
    assert how_a_process_ends(*numbers) == numbers[1]


@pytest.mark.parametrize("asked", [False, True])
def test_the_handlers_before_come_back(asked: bool) -> None:
    seen = []

    def own(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with listen():
            if asked:
                send(signal.SIGTERM)
        assert seen == []
        send(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_come_back_after_an_error_too() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), listen():
        _ = 1 / 0
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_another_thread_may_train_without_listening() -> None:
    asked = []

    def work() -> None:
        with listen() as request:
            asked.append(request.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]


def batches(start: int) -> Iterator[ImageTextBatch]:
    for step in range(start, 9):
        random = torch.Generator().manual_seed(step)
        rows = torch.randn(2, 6, 8, generator=random)
        ids = torch.arange(6)
        yield ImageTextBatch(rows[0], rows[1], torch.ones(6, 0, dtype=torch.bool), ids, ids)


def trainer(folder: Path, *, asked_at: int | None = None) -> Trainer:
    contrast, calls = ContrastiveObjectiveConfig().build(), []

    def objective(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == asked_at:
            send(signal.SIGTERM)
        return dict(contrast(features, batch))

    torch.manual_seed(0)
    model = DualEncoder(CachedTower(), CachedTower(), nn.Linear(8, 4), nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.2)))
    settings = {"num_steps": 9, "batch_size": 6, "learning_rate": {"heads": 0.01}}
    return Trainer(
        "train",
        model,
        objective,
        batches,
        TrainConfig.parse(settings, place="test"),
        steps_per_epoch=9,
        evaluate=None,
        folder=folder,
        seed=0,
        watch=BrokenItems(6, 0),
    )


def test_a_training_ends_after_the_step_at_hand_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run(resume=False)
    cut = trainer(tmp_path / "cut", asked_at=4)
    with pytest.raises(Interrupted, match=r"train: stopped at step 4 of 9"):
        cut.run(resume=False)
    assert [path.name for path in cut.checkpoints.steps()] == ["step-00000004.pt"]
    resumed = trainer(tmp_path / "cut")
    assert resumed.run(resume=True).step == 9
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="there is none on Windows")
def test_that_the_process_was_stopped_is_noted() -> None:
    before = signal.getsignal(signal.SIGCONT)
    with listen() as request:
        send(signal.SIGCONT)
        assert CONTINUED.is_set()
        assert not request.is_set()
    CONTINUED.clear()
    assert signal.getsignal(signal.SIGCONT) == before
