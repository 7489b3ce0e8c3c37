"""The three measurements of a tower; each is made in a process of its own, as memory and crashes are a process's."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from pocketclip.asked import TimmModelConfig
from pocketclip.cost.energy import Energy, measure_energy
from pocketclip.cost.flops import tower_macs
from pocketclip.cost.latency import time_calls
from pocketclip.cost.memory import peak_mib
from pocketclip.cost.parameters import count_parameters
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.evaluate.task import TaskData, measure
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.hardware import keep_freed_memory
from pocketclip.image_size import height_and_width
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.origin.packages import IMAGE_PACKAGES
from pocketclip.models.running.reparam import reparameterize
from pocketclip.models.running.runner import Runner
from pocketclip.models.running.threads import THREADS
from pocketclip.models.tower import ImageTower, NoTower
from pocketclip.records import EvalResult
from pocketclip.stages.watch import Watch
from pocketclip.study.towers.config import MeasureConfig, TowerConfig
from pocketclip.study.towers.record import Spread, TowerCost, TowerTraining

BATCHES = (1, 32)
CPU = torch.device("cpu")
Tell = Callable[[float], None]
"""Takes the share of the work that is done."""


def measure_cost(tower: TowerConfig, measuring: MeasureConfig, tell: Tell) -> TowerCost:
    """Parameters, MACs, latency, memory and energy of a tower, whose weights do not matter to them."""
    encoder, size = _build(tower), tower.image_size
    model = DualEncoder(encoder, NoTower(), nn.Identity(), nn.Identity())
    fused = reparameterize(model)
    parameters_fused = count_parameters(fused.image_encoder)
    macs = tower_macs(fused, image_size=size, context_length=0)["macs_image"]
    del fused  # no part of the memory that is measured next
    tell(0.2)
    runner, spreads = Runner(model, device=CPU, image_size=size), list[Spread]()
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (batch, *height_and_width(size), 3), dtype=np.uint8) for batch in BATCHES]

    def time_batches() -> None:
        for number, batch in enumerate(pixels, start=1):
            times = time_calls(partial(runner.encode_images, batch), seconds=measuring.seconds)
            spreads.append(_spread(times))
            tell(0.2 + 0.3 * number)

    memory = peak_mib(time_batches, CPU)
    count = 0
    with measure_energy() as energy:
        if find_spec("codecarbon") is not None:
            count = BATCHES[-1] * _run_for(measuring.seconds, partial(runner.encode_images, pixels[-1]))
    return TowerCost(
        parameters=count_parameters(encoder),
        parameters_fused=parameters_fused,
        macs=macs,
        latency_ms_batch_1=spreads[0],
        latency_ms_batch_32=spreads[1],
        peak_memory_mib=memory["peak_memory_mib"],
        resident_before_mib=memory["resident_before_mib"],
        joules_per_1000_images=_joules(energy, 1000 / count if count else 0),
        energy_method=energy.method,
        precision=runner.precision,
        num_threads=torch.get_num_threads(),
    )


def measure_training(tower: TowerConfig, measuring: MeasureConfig, tell: Tell) -> TowerTraining:
    """Seconds, memory and energy of an epoch, from a few steps."""
    encoder, size, batch = _build(tower).train(), tower.image_size, measuring.training_batch_size
    optimizer, times = torch.optim.AdamW(encoder.parameters()), list[float]()
    images = torch.randint(0, 256, (batch, 3, *height_and_width(size)), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        started = time.perf_counter()
        encoder(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(1000 * (time.perf_counter() - started))
        tell(len(times) / (1 + measuring.training_steps))

    step()
    times.clear()

    def timed_steps() -> None:
        for _ in range(measuring.training_steps):
            step()

    with measure_energy() as energy:
        memory = peak_mib(timed_steps, CPU)
    steps = measuring.epoch_images / batch
    return TowerTraining(
        seconds_per_epoch=round(statistics.median(times) / 1000 * steps, 1),
        step_ms=_spread(times),
        peak_memory_mib=memory["peak_memory_mib"],
        joules_per_epoch=_joules(energy, steps / measuring.training_steps),
        num_threads=torch.get_num_threads(),
    )


def measure_score(tower: TowerConfig, data: Any, train_data: Any, *, offline: bool, tell: Tell) -> EvalResult:
    """A linear probe's accuracy on what a tower gives with its pretrained weights.

    Raises:
        UserError: its weights are not at hand.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library is there; each tower would wait a minute for it
    origin = tower.pretrained
    if origin == "at_hand":
        origin = "package" if tower.name in IMAGE_PACKAGES else "hub"
    asked = TimmModelConfig.from_text(tower.name if origin == "hub" else f"{tower.name}/{origin}")
    asked = asked.model_copy(update={"image_size": tower.image_size})
    try:
        model = asked.build(CPU)
    except UserError as error:
        if tower.pretrained != "at_hand" or origin == "package":
            raise
        raise UserError("no weights at hand: no pip package carries them, and the hub did not answer") from error
    train = None if train_data is None else open_source(train_data)
    return measure(LinearProbe(), model, TaskData(open_source(data), train=train), _Shares(tell))


class _Shares(Watch):
    """Of a probe's work, which has parts of unknown length, only encoding is told, most of the time."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self.most = tell, 0.0

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        if name.startswith("encoding"):
            self.most = max(self.most, 0.9 * done / max(total, 1))
            self.tell(self.most)


def _build(tower: TowerConfig) -> ImageTower:
    """With random weights, and torch with as many threads as there are free cores."""
    keep_freed_memory()
    THREADS.fit()
    torch.manual_seed(0)
    return TimmImageEncoderConfig(name=tower.name, pretrained="none", image_size=tower.image_size).build()


def _spread(times: Sequence[float]) -> Spread:
    low, median, high = (round(float(value), 3) for value in np.percentile(times, (5, 50, 95)))
    return Spread(median=median, low=low, high=high, num_calls=len(times))


def _run_for(seconds: float, call: Callable[[], object]) -> int:
    """How often it was called."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        call()
        count += 1
    return count


def _joules(energy: Energy, factor: float) -> float | None:
    return None if energy.kwh is None else round(3.6e6 * energy.kwh * factor, 2)
