"""Threads by the cores that other work leaves, within what the user allows."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.features.encode import in_threads
from pocketclip.models.running import threads as module
from pocketclip.models.running.backend_calls import one_core_each
from pocketclip.models.running.threads import Threads


class FakeLoad:
    """Other work of so many cores."""

    def __init__(self) -> None:
        self.others: float | None = 0.0

    def look(self) -> float | None:
        return self.others

    glance = look


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLoad]:
    """Four cores, with other work of `others`."""
    before = torch.get_num_threads()
    for name in (*module.CHOSEN_BY_USER, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pocketclip.models.running.threads.available_cores", lambda: 4)
    monkeypatch.setattr("pocketclip.hardware.available_cores", lambda: 4)
    torch.set_num_threads(4)
    load = FakeLoad()
    monkeypatch.setattr(module.THREADS, "load", load)
    monkeypatch.setattr(module.THREADS, "_lowered", None)
    yield load
    torch.set_num_threads(before)


@pytest.fixture
def threads(load: FakeLoad) -> Threads:
    assert module.THREADS.load is load
    return module.THREADS


@pytest.mark.parametrize(
    ("others", "wanted"), [(None, 4), (0.0, 4), (0.4, 4), (0.5, 3), (1.0, 3), (1.3, 3), (2.0, 2), (3.4, 1), (4.0, 1)]
)
def test_torch_gets_the_cores_that_are_free(
    others: float | None, wanted: int, load: FakeLoad, threads: Threads
) -> None:
    load.others = others
    note = threads.fit()
    assert torch.get_num_threads() == wanted
    assert (note is None) == (wanted == 4)
    assert threads.most == 4
    assert threads.is_lowered == (wanted < 4)


def test_threads_come_back_with_the_cores(load: FakeLoad, threads: Threads) -> None:
    load.others = 3.0
    assert threads.fit() == "1 of 4 threads, as other work kept 3.0 of 4 cores busy"
    assert threads.fit() is None
    load.others = 0.1
    assert threads.fit() == "4 of 4 threads, as other work kept 0.1 of 4 cores busy"
    assert torch.get_num_threads() == threads.most == 4
    assert not threads.is_lowered


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_NUM_THREADS", "4"), ("MKL_NUM_THREADS", "4"), ("LOCAL_WORLD_SIZE", "2")]
)
def test_what_the_user_says_wins(
    name: str, value: str, load: FakeLoad, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    load.others = 3.0
    assert threads.fit() is None
    assert threads.suited(1, 10) == threads.suited(32, 10) == torch.get_num_threads() == 4


@pytest.mark.parametrize("count", [1, 3])
def test_a_count_set_in_torch_wins(count: int, load: FakeLoad, threads: Threads) -> None:
    load.others = 3.0
    torch.set_num_threads(count)
    assert threads.fit() is None
    assert threads.suited(1, 10) == torch.get_num_threads() == count


@pytest.mark.parametrize(
    ("others", "count", "size", "wanted"),
    [
        (0.0, 1, module.SMALL_TOWER, 1),
        (0.0, 1, module.SMALL_TOWER + 1, 4),
        (0.0, 2, 1000, 4),
        (2.0, 32, 1000, 2),
        (2.0, 1, module.SMALL_TOWER + 1, 2),
        (None, 32, 1000, 4),
    ],
)
def test_a_pass_has_the_threads_that_suit_it(
    others: float | None, count: int, size: int, wanted: int, load: FakeLoad, threads: Threads
) -> None:
    load.others = others
    assert threads.suited(count, size) == wanted
    with threads.while_running(wanted):
        assert torch.get_num_threads() == wanted
    assert torch.get_num_threads() == 4


def test_a_model_that_is_asked_for_one_runs_in_one_thread(
    load: FakeLoad, tiny_pretrained: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    model = tiny_pretrained.to("cpu", precision="float32")
    model.runner.encoder("image").register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    model.runner.encoder("text").register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    size = model.preprocess.image_size
    model.encode_images(np.zeros((1, size, size, 3), np.uint8))
    model.encode_text("a star")
    model.encode_images(np.zeros((4, size, size, 3), np.uint8))
    load.others = 2.0
    model.encode_images(np.zeros((4, size, size, 3), np.uint8))
    assert seen == [1, 1, 4, 2]
    assert torch.get_num_threads() == 4


def test_whole_sources_are_encoded_as_on_an_idle_machine(load: FakeLoad, threads: Threads) -> None:
    load.others = 4.0
    threads.fit()
    with one_core_each() as count:
        assert (count, torch.get_num_threads()) == (4, 1)
    assert list(in_threads(lambda item: (item, torch.get_num_threads()), range(9))) == [(item, 1) for item in range(9)]
    assert torch.get_num_threads() == 1
    assert threads.most == 4
