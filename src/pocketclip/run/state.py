"""What the stages and the evaluations of one run share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pocketclip import distributed
from pocketclip.bundle import find_bundle
from pocketclip.config import digest
from pocketclip.cost.energy import Energy
from pocketclip.data import Source
from pocketclip.data.identity import picture_ids
from pocketclip.data.masked_tokens import Masking
from pocketclip.data.source import left_out_lines, whole_of
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.features.towers import FrozenTowers
from pocketclip.hubs import Hubs
from pocketclip.models.running.precision import round_to_half
from pocketclip.recipe import Recipe
from pocketclip.records import Trunk
from pocketclip.run.data import LISTS, check_apart, check_unchanged, keep_lists, open_data, open_split
from pocketclip.run.people import note_shared, sizes_of, training_identities
from pocketclip.run.setup import frozen_towers, starting_model
from pocketclip.run.teaching import open_teaching
from pocketclip.sketch import Sketch
from pocketclip.stages.filling import FILLING
from pocketclip.stages.watch import BrokenItems, Watch
from pocketclip.train.budget import Spent
from pocketclip.train.causes import Settings
from pocketclip.train.config import TrainConfig


@dataclass
class Run:
    """Data, model and objective of a recipe on their device, and what is known of the run so far."""

    recipe: Recipe
    folder: Path
    watch: Watch
    device: torch.device
    resume: bool
    with_profile: bool
    with_sharding: bool
    verify: bool = False
    started: float = field(default_factory=time.perf_counter)
    dollars_per_hour: float | None = None
    energy: Energy = field(default_factory=Energy)
    until: float = 1.0
    """Share of the last stage's steps after which the run waits."""

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.earlier_seconds = 0.0
        self.spent, self.stage_began = Spent(self.started), 0.0  # both in seconds of the run, pauses left out
        self.macs_per_sample: dict[str, float] = {}  # of the stages so far, and what they took in all
        self.macs_spent: dict[str, float] = {}
        self.filled = FILLING.seconds  # by what this process did before
        self.seconds: dict[str, float] = {}
        self.seconds_per_epoch: dict[str, float] = {}
        self.train_source, self.val_source = open_data(recipe.data, self.watch, verify=self.verify)
        self.measured = {"val": self.val_source}  # at the end, by split
        if recipe.data.test is not None:
            self.measured["test"] = open_split(recipe.data.test, self.watch, verify=self.verify)
        splits = {"train": self.train_source, **self.measured}
        if self.resume:
            check_unchanged(self.folder, splits, self.watch, verify=self.verify)
        self.notes = check_apart(splits, recipe.data, self.watch)
        needs, asked = recipe.objective.needs, {}
        self.identities = training_identities(self.train_source) if needs.identities else None
        if self.identities is not None:
            for split, source in self.measured.items():
                self.notes[split] += note_shared(self.identities, split, source)
        distributed.on_main(lambda: self._keep_lists(splits))
        self.left_out = left_out_lines(self.train_source, *self.measured.values())
        for line in self.left_out:
            self.watch.note(line)
        self._broken: dict[int, BrokenItems] = {}
        torch.manual_seed(recipe.seed)
        self.tokenizer, self.model = starting_model(recipe, self.train_source)
        if recipe.bundle_weights == "float16":
            round_to_half(self.model)  # features in the cache are those of the bundle
        self.model.to(self.device)
        self.model.image_encoder.look_once()  # until it is trained
        self.preprocess = self.model.image_encoder.preprocess
        self.teaching = open_teaching(recipe, self.train_source, self.device)
        self.masking = Masking.of(self.tokenizer, needs.mask_rate) if needs.mask_rate else None
        if self.identities is not None:
            asked["sizes"] = sizes_of(needs, self.identities, self.model, self.tokenizer)
        self.objective = recipe.objective.build(
            embed_dim=recipe.model.embed_dim,
            teacher_widths=self.teaching.widths,
            feature_dim=self.model.width_of_views,
            **asked,
        )
        self.task = embedding_task(recipe.objective.needs.task)
        self.broken = self.broken_of(self.train_source)
        self.trunk: Trunk | None = None  # that the run branched from
        self.hubs: Hubs | None = None  # of the trained model
        self.num_captions: int | None = None  # known once every caption was read
        self.tried: Settings | None = None  # of the newest stage
        self.told: set[str] = set()  # what the user has been told of learning, by name
        self._frozen: dict[str, FrozenTowers] = {}  # by the settings they were built with

    def broken_of(self, source: Source) -> BrokenItems:
        """Counts the broken items of a source, or of all that it is a part of, and stops the run above the limit."""
        whole = whole_of(source)
        share = self.recipe.data.max_broken_share
        counted = BrokenItems(len(whole), share, again="--resume", watch=self.watch)
        return self._broken.setdefault(id(whole), counted)

    def broken_messages(self) -> list[str]:
        """All items that were left out, each once."""
        return list(dict.fromkeys(message for one in self._broken.values() for message in one.messages))

    def _keep_lists(self, splits: dict[str, Source]) -> None:
        if not (self.folder / LISTS).is_file():
            keep_lists(self.folder, splits, self.watch)

    def trained_on(self) -> Sketch:
        """The pictures of this run, and of the bundle that it started from."""
        start = self.recipe.model.bundle
        earlier = None if start is None else Sketch.load(find_bundle(start))
        return Sketch.of(picture_ids(self.train_source, self.watch)).joined(earlier)

    def towers(self, stage: TrainConfig) -> FrozenTowers:
        """The model's towers as they are now, in the precision of a stage, through the feature cache."""
        asked = digest([self.model.image_encoder.settings, stage.precision])
        if asked not in self._frozen:
            towers = frozen_towers(self.recipe, stage, self.tokenizer, self.model, self.train_source, self.device)
            self._frozen[asked] = towers
        return self._frozen[asked]

    @contextmanager
    def as_finished(self) -> Iterator[None]:
        """Within, the image tower looks at pictures as it will once it is trained."""
        self.model.image_encoder.look_once(False)
        try:
            yield
        finally:
            self.model.image_encoder.look_once()

    def towers_changed(self) -> None:
        """A later stage caches what the towers are then."""
        self._frozen.clear()

    def move_cache(self, root: Path) -> None:
        """Features go to this folder from now on."""
        for towers in self._frozen.values():
            towers.root = root
