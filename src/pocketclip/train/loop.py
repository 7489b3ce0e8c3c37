"""The one training loop: next batch, step, log, evaluate, checkpoint, stop."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.profiler import record_function

from pocketclip import distributed
from pocketclip.errors import Interrupted
from pocketclip.hardware import keep_freed_memory
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import autocast
from pocketclip.stages.watch import BrokenItems
from pocketclip.train import checkpoint, interrupt
from pocketclip.train.budget import CountedSteps, Spent, StepPlan
from pocketclip.train.checkpoint import CheckpointFolder
from pocketclip.train.config import TrainConfig
from pocketclip.train.metrics import MetricsFile, mean_of_steps
from pocketclip.train.modes import average_running_statistics, set_modes
from pocketclip.train.optimizer import build_average, build_optimizer
from pocketclip.train.parallel import agree, on_ranks
from pocketclip.train.profile import step_profiler
from pocketclip.train.progress import Progress
from pocketclip.train.rates import PlateauScheduleConfig
from pocketclip.train.rung import validation_scores, wait_at_rung
from pocketclip.train.schedule import PlannedRates, build_schedule
from pocketclip.train.step import learned_part, train_step
from pocketclip.types import ImageTextBatch, Objective

Evaluate = Callable[[nn.Module], Mapping[str, float]]
Batches = Callable[[int], Iterator[ImageTextBatch]]
"""From a step number on, one batch a step."""
Teach = Callable[[ImageTextBatch, int | None], ImageTextBatch]
"""Fills in what live teachers make of a batch, running them on so many images at a time (None: on all at once)."""

_RANKS_APART = 1_000_003  # between the seeds of two ranks


@dataclass(eq=False)
class Trainer:
    """One stage of a run.

    With several ranks every one has a trainer; the batches are its shares, and rank 0 alone writes files.
    """

    name: str
    """Its checkpoints are in `folder/checkpoints/NAME`."""
    model: DualEncoder
    """On its device."""
    objective: Objective
    batches: Batches
    config: TrainConfig
    _: KW_ONLY
    steps_per_epoch: int
    evaluate: Evaluate | None
    """None where there is no validation split."""
    folder: Path
    """Of the run, with its `metrics.jsonl`."""
    seed: int
    """Of dropout and the like; the order of the data has its own."""
    watch: BrokenItems
    """Told of the steps done; counts the items left out."""
    teach: Teach | None = None
    with_profile: bool = False
    """Write where the time of some early steps went to `folder/profile`."""
    with_sharding: bool = False
    """Several ranks spread the weights (FSDP2) instead of holding all of them each (DDP)."""
    until: float = 1.0
    """Share of the steps after which it raises `RungReached`; `resume` goes on."""
    spent: Spent = field(default_factory=Spent)
    """Of the run, of which this is a stage."""
    budget: CountedSteps = field(default_factory=CountedSteps)
    """Plans the steps."""

    def __post_init__(self) -> None:
        name, model, config, folder = self.name, self.model, self.config, self.folder
        self.title = name.replace("_", " ")  # for people
        self.device = model.logit_scale.device
        self.plan = self.budget.first_plan(config.total_steps(self.steps_per_epoch))
        checkpoint.check_kept_steps(config.keep_steps, self.plan.num_steps, name)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.parallel = on_ranks(model, config, name, with_sharding=self.with_sharding)
        self.model = model = self.parallel.model
        self.learned = learned_part(self.objective).to(self.device).train()
        self.optimizer = build_optimizer(model, config.optimizer, config.learning_rate, list(self.learned.parameters()))
        self.schedule = build_schedule(config.schedule, self.optimizer, self.plan.num_steps)
        self.average = None if config.ema_decay is None else build_average(model, config.ema_decay)
        self.checkpoints = CheckpointFolder(folder / "checkpoints" / name, config.num_checkpoints)
        self.metrics = MetricsFile(folder / "metrics.jsonl", name, tensorboard=config.tensorboard)
        watched = self.with_profile and distributed.is_main()
        self.profiler = step_profiler(folder / "profile", name) if watched else None
        self.progress = Progress()
        self.earlier_seconds = 0.0  # spent by the processes that a resumed stage goes on from
        self._pending: list[tuple[int, dict[str, Tensor]]] = []

    def run(self, *, resume: bool) -> Progress:
        """Train to the end, or go on from the newest checkpoint; the model ends with the weights to keep.

        Raises:
            UserError: a loss that is not finite, too many broken items, or a full disk.
            Interrupted: Ctrl-C or SIGTERM; a checkpoint of the last step is there.
        """
        # Whatever drew before, such as a cache being filled, must not matter; every rank has its own dropout
        torch.manual_seed(self.seed + _RANKS_APART * distributed.rank())
        if resume:
            self._resume()
        self.earlier_seconds = sum(self.progress.seconds.values())
        self.watch.work(self.title, self.progress.step, self.plan.told(self.progress.step))
        if distributed.on_main(self.checkpoints.final.is_file):
            self.parallel.whole_model().eval()
            return self.progress
        if not self._finished():
            wait_at_rung(self, self.plan.num_steps)
            with interrupt.listen() as request, self.profiler or nullcontext():
                self._train(request)
        self._take_weights_to_keep()
        state = {"progress": self._reached(), "model": self.parallel.whole_model().eval().state_dict()}
        state["objective"] = self.learned.state_dict()  # a later stage goes on from it
        distributed.on_main(lambda: self.checkpoints.finish(state))
        return self.progress

    def _finished(self) -> bool:
        return self.progress.stopped or self.progress.step >= self.plan.num_steps

    def _reached(self) -> dict[str, Any]:
        self.progress.spent, self.progress.plan = self.spent.seconds(), dict(vars(self.plan))
        return dict(vars(self.progress))

    def _train(self, request: Event) -> None:
        config, progress = self.config, self.progress
        set_modes(self.model, self.config)
        every = None if config.evaluate_every is None else max(1, round(config.evaluate_every * self.steps_per_epoch))
        self.budget.begin(progress.step, self.plan, steps_per_evaluation=0 if self.evaluate is None else every)
        started = time.perf_counter()
        batches = self.batches(progress.step)
        while (batch := self._next(batches)) is not None:
            progress.seconds_waiting += time.perf_counter() - started
            batch, stop = agree(batch, request.is_set())
            self._step(batch)
            elapsed = time.perf_counter() - started
            progress.seconds["train"] += elapsed
            self.plan = self.budget.after_step(progress.step, elapsed, self.plan)
            if isinstance(self.schedule, PlannedRates):
                self.schedule.follow(self.plan)
            waiting = progress.seconds_waiting / max(progress.seconds["train"], 1e-9)
            shown = {**self.metrics.newest, "waiting_for_data": waiting}
            speed = sum(batch.shares) / max(elapsed, 1e-9)
            self.watch.step(self.title, progress.step, self.plan.told(progress.step), speed, shown)
            if self.profiler is not None:
                self.profiler.step()
            last = progress.step == self.plan.num_steps
            if progress.step % config.log_every == 0 or last:
                self._log()
            if self.evaluate is not None and (last or (every is not None and progress.step % every == 0)):
                self._evaluate()
            if progress.step in config.keep_steps:
                self.save(keep=True)
            if self._finished():
                break
            wait_at_rung(self, self.plan.num_steps)
            stop = stop or (request.is_set() and distributed.world_size() == 1)
            if progress.step % config.checkpoint_every == 0 or stop:
                self.save()
            if stop:
                raise Interrupted(f"{self.name}: stopped at step {progress.step} of {self.plan.told(progress.step)}.")
            started = time.perf_counter()
        self._log()
        progress.broken = list(self.watch.messages)

    def _next(self, batches: Iterator[ImageTextBatch]) -> ImageTextBatch | None:
        with record_function("data"):
            return next(batches, None)

    def _step(self, batch: ImageTextBatch) -> None:
        progress = self.progress
        self.watch.add(batch.broken)
        if sum(batch.shares) >= 2 and min(batch.shares) >= 1:
            batch = batch.to(self.device)
            if self.teach is not None:
                with record_function("teacher"), torch.no_grad():
                    batch = self.teach(batch, self.config.chunk_size)
            scalars = train_step(
                self.parallel,
                self.objective,
                batch,
                self.optimizer,
                autocast=lambda: autocast(self.config.precision, self.device),
                max_grad_norm=self.config.max_grad_norm,
                chunk_size=self.config.chunk_size,
            )
            self._pending.append((progress.step + 1, scalars))
            if self.average is not None:
                self.average.update_parameters(self.model)
        if isinstance(self.schedule, PlannedRates):
            self.schedule.step()
        progress.step += 1

    def _log(self) -> None:
        """Write the mean of the scalars since the last line; see `mean_of_steps`."""
        if not self._pending:
            return
        means = mean_of_steps(self._pending, self.name, self.checkpoints)
        self._pending.clear()
        rates = {f"learning_rate_{group['part']}": group["lr"] for group in self.optimizer.param_groups}
        self._write({**means, **rates, "temperature": float(1 / self.model.logit_scale.detach().exp())})

    def _write(self, values: Mapping[str, float]) -> None:
        step, epoch = self.progress.step, self.progress.step / self.steps_per_epoch
        self.metrics.newest.update(values)
        self.progress.metrics_bytes = distributed.on_main(lambda: self.metrics.write(step, epoch, values))

    def evaluated_model(self) -> DualEncoder:
        """The model that is measured: the average of its weights where there is one."""
        if self.average is None:
            return self.parallel.whole_model()
        averaged: DualEncoder = self.average.module  # type: ignore[assignment]
        return averaged

    def _evaluate(self) -> None:
        self._log()
        started = time.perf_counter()
        values = validation_scores(self)
        progress, config, elapsed = self.progress, self.config, time.perf_counter() - started
        progress.seconds["validate"] += elapsed
        self.budget.evaluated(elapsed)
        progress.evaluation = values
        progress.num_evaluations += 1
        self._write(values)
        if isinstance(config.schedule, PlateauScheduleConfig) and isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(progress.metric(config.schedule.metric, self.name))
        stopping = config.early_stopping
        if config.keep != "best" and stopping is None:
            return
        if progress.is_best(config.chosen_by, self.name):
            if config.keep == "best":
                weights = self.evaluated_model().state_dict()
                distributed.on_main(lambda: checkpoint.save_atomically(self.checkpoints.best, {"model": weights}))
        elif stopping is not None and progress.evaluations_since_best >= stopping.patience:
            progress.stopped = True
            self.watch.note(f"{self.name}: no better {stopping.metric} since step {progress.best_step}; stopped.")

    def save(self, *, keep: bool = False) -> None:
        """Write a checkpoint of the step just done, one that stays when the run is over if it is to be kept."""
        self._log()
        average_running_statistics(self.model)
        self.progress.broken = list(self.watch.messages)
        state: dict[str, Any] = {
            "progress": self._reached(),
            "num_steps": self.plan.num_steps,
            "model": self.parallel.state_dict(),
            "optimizer": self.parallel.optimizer_state(self.optimizer),
            "schedule": self.schedule.state_dict(),
            "random": distributed.gather_objects(checkpoint.random_states()),
            "average": None if self.average is None else self.average.state_dict(),
            "objective": self.learned.state_dict(),
        }
        write = self.checkpoints.keep_step if keep else self.checkpoints.save
        distributed.on_main(lambda: write(self.progress.step, state))

    def _resume(self) -> None:
        state = distributed.on_main(self.checkpoints.load_newest)
        if state is None:
            distributed.on_main(self.metrics.start_over)
            return
        self.progress = Progress(**state["progress"])
        self.spent.go_on(self.progress.spent)
        self.plan = StepPlan(**self.progress.plan) if self.progress.plan else self.plan
        self.parallel.load_state_dict(state["model"])
        self.watch.add(self.progress.broken)
        self.learned.load_state_dict(state.get("objective", {}), strict="objective" in state)
        if "optimizer" not in state:  # the stage was over
            return
        self.parallel.load_optimizer_state(self.optimizer, state["optimizer"])
        if isinstance(self.schedule, PlannedRates):
            self.schedule.plan = self.plan
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        distributed.on_main(lambda: self.metrics.cut(self.progress.metrics_bytes, self.progress.step))
        if len(state["random"]) == distributed.world_size():
            checkpoint.restore_random_states(state["random"][distributed.rank()])
        else:  # other ranks than before: dropout draws anew, the data goes on as it was
            torch.manual_seed(self.seed + _RANKS_APART * distributed.rank() + self.progress.step)

    def _take_weights_to_keep(self) -> None:
        best = distributed.on_main(self.checkpoints.load_best) if self.config.keep == "best" else None
        average_running_statistics(self.model)
        if best is not None:
            self.parallel.load_state_dict(best["model"])
        elif self.average is not None:
            self.parallel.load_state_dict(self.evaluated_model().state_dict())
