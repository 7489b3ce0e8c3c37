"""What a latency measurement reports; the times themselves are not tested."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost import latency as module
from pocketclip.cost.latency import latency, time_calls
from pocketclip.stages.watch import Watch


class CountingRunner:
    """Stands in for a model; remembers the shapes it was given."""

    def __init__(self) -> None:
        self.precision = "float32"
        self.device = torch.device("cpu")
        self.pixels: set[tuple[int, ...]] = set()
        self.tokens: set[tuple[int, ...]] = set()

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> None:
        assert pixels.dtype == np.uint8
        self.pixels.add(pixels.shape)

    def encode_tokens(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> None:
        assert mask.all()
        self.tokens.add(tokens.shape)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(module, "MIN_RUNS", 3)


@pytest.mark.usefixtures("quick")
def test_every_number_of_a_real_model_is_there_and_positive(tiny_pretrained: PretrainedModel) -> None:
    result = latency(tiny_pretrained.runner, image_size=32, num_tokens=8, seconds=0.0)
    numbers = [f"latency_ms_{name}_{part}" for name in ("p50", "p95") for part in ("image", "text")]
    numbers += ["throughput_image_per_second", "throughput_text_per_second", "latency_ms_p50", "num_threads"]
    assert all(float(result[name]) > 0 for name in numbers)
    assert result["latency_ms_p95_image"] >= result["latency_ms_p50_image"]


@pytest.mark.usefixtures("quick")
def test_the_conditions_are_reported(tiny_pretrained: PretrainedModel) -> None:
    result = latency(tiny_pretrained.runner, image_size=32, num_tokens=8, seconds=0.0)
    conditions = {name: result[name] for name in ("num_tokens", "image_size", "precision", "device", "num_threads")}
    assert conditions == {
        "num_tokens": 8, "image_size": 32, "precision": "float32", "device": "cpu",
        "num_threads": torch.get_num_threads(),
    }  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_batches_of_1_and_32_are_measured() -> None:
    runner = CountingRunner()
    latency(runner, image_size=16, num_tokens=5, seconds=0.0)  # type: ignore[arg-type]
    assert runner.pixels == {(1, 16, 16, 3), (32, 16, 16, 3)}
    assert runner.tokens == {(1, 5), (32, 5)}


@pytest.mark.usefixtures("quick")
def test_throughput_and_latency_follow_from_the_times_of_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time_calls", lambda call, seconds: [4.0, 2.0, 8.0])
    result = latency(CountingRunner(), image_size=16, num_tokens=5)  # type: ignore[arg-type]
    assert result["latency_ms_p50_image"] == 4.0
    assert result["latency_ms_p95_text"] == pytest.approx(7.6)
    assert result["latency_ms_p50"] == 8.0  # one image and one text
    assert result["throughput_image_per_second"] == 8000.0  # 32 in 4 ms


def test_warm_up_calls_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    calls: list[float] = []

    def call() -> None:
        calls.append(clock[0])
        clock[0] += 0.1

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    times = time_calls(call, seconds=0.0)
    assert len(times) == module.MIN_RUNS
    assert len(calls) == module.MIN_RUNS + 3  # three calls fill the 0.3 s of warm-up
    assert times == pytest.approx([100.0] * module.MIN_RUNS)


def test_calls_go_on_for_the_wanted_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def call() -> None:
        clock[0] += 0.1

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert len(time_calls(call, seconds=5.05)) == 51


def test_a_call_that_takes_long_is_timed_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def call() -> None:
        clock[0] += 3.0

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert time_calls(call, seconds=1.0) == [3000.0] * module.FEWEST_RUNS
    assert clock[0] == 3.0 * (1 + module.FEWEST_RUNS)  # one to warm up


@pytest.mark.parametrize(("seconds", "told"), [(0.001, False), (1.5, True)])
def test_few_runs_are_told(seconds: float, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class SlowRunner(CountingRunner):
        def encode_images(self, pixels: npt.NDArray[np.uint8]) -> None:
            clock[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    steps: list[tuple[str, int, int]] = []

    class Steps(Watch):
        def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
            steps.append((name, done, total))

    runner: Any = SlowRunner()
    monkeypatch.setattr(runner, "encode_tokens", lambda tokens, mask: runner.encode_images(tokens))
    result = latency(runner, image_size=16, num_tokens=5, seconds=0.0, watch=Steps())
    assert result.get("num_runs") == (module.FEWEST_RUNS if told else None)
    assert steps == [("timing", done, 4) for done in range(5)]
