"""Frozen towers run once over a source, through the feature cache."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch

from pocketclip import distributed
from pocketclip.config import digest
from pocketclip.data.blocks import Block, Stage
from pocketclip.data.cache import CacheConfig, CachedPairs, Entry, fill_images, fill_texts
from pocketclip.data.encode import ImageBlock, TextBlock, image_blocks, text_blocks
from pocketclip.data.source import Source
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.inference import Runner, module_fingerprint
from pocketclip.models.precision import Precision, precision_of_scores
from pocketclip.preprocess import PreprocessConfig
from pocketclip.stages.watch import BrokenItems
from pocketclip.tokenizer import Tokenizer

What = Literal["images", "captions"]
Blocks = Callable[[What, Stage, int], Iterator[tuple[int, Block]]]
"""Gives the blocks of a stage from a sample on; see `Stage.compute_from`."""
IMAGES_PER_BLOCK, CAPTIONED_PER_BLOCK = 512, 2048


class FrozenTowers:
    """The two towers of a model, their fingerprints and the cache their features go to.

    Args:
        model: its towers must not change while this is in use.
        tokenizer: of the text tower.
        preprocess: of the image tower.
        root: folder of the cache.
        device: where to compute.
        precision: `auto` is bfloat16 where the device multiplies it in hardware.
        num_images: that will come in all, for the choice of a backend; 0 takes the one without set-up.
        num_texts: likewise.
        inference: the backend; `auto` is chosen for the numbers above.
    """

    def __init__(
        self,
        model: DualEncoder,
        tokenizer: Tokenizer,
        preprocess: PreprocessConfig,
        *,
        root: Path,
        device: torch.device,
        precision: Precision = "auto",
        num_images: int = 0,
        num_texts: int = 0,
        inference: str = "auto",
    ) -> None:
        self.model, self.tokenizer, self.preprocess = model, tokenizer, preprocess
        self.root, self.device, self.precision = root, device, precision
        self.runner = self._make_runner(precision, inference=inference)
        self.runner.plan(num_images=num_images, num_texts=num_texts)
        common = {"device": device.type, "torch": torch.__version__}
        image_tower, text_tower = model.image_stages()[0], model.text_stages()[0]
        image_settings, text_settings = digest(image_tower.settings), digest(text_tower.settings)
        self._image_key = {
            **common,
            "tower": module_fingerprint(image_tower, image_settings),
            "preprocess": preprocess.model_dump(mode="json"),
        }
        self._text_key = {
            **common,
            "tower": module_fingerprint(text_tower, text_settings),
            "tokenizer": digest(tokenizer.to_json()),
            "context_length": tokenizer.context_length,
        }

    def _make_runner(self, precision: Precision, *, inference: str = "auto") -> Runner:
        size = self.preprocess.image_size
        return Runner(
            self.model, device=self.device, precision=precision, image_size=size, heads=False, inference=inference
        )

    @functools.cached_property
    def _runner_for_scores(self) -> Runner:
        return self._make_runner(precision_of_scores(self.precision))

    def features(
        self,
        source: Source,
        views: CacheConfig,
        watch: BrokenItems,
        *,
        seed: int = 0,
        for_scores: bool = False,
        blocks: Blocks = lambda what, stage, start: stage.compute_from(start),
    ) -> CachedPairs:
        """Features of every image's views and of every caption, computed only where the cache lacks them.

        Args:
            source: what to encode.
            views: of the images.
            watch: told of the samples done, and of the items that cannot be read.
            seed: of the crops.
            for_scores: the features are for measuring recalls; see `precision_of_scores`.
            blocks: computes the blocks, in this process where nothing else is given.

        Raises:
            UserError: too many broken items, or a full disk.
        """
        text_stage = self.text_stage(source, for_scores=for_scores)

        def text_blocks(start: int) -> Iterator[TextBlock]:
            for num_done, block in blocks("captions", text_stage, start):
                yield TextBlock(**block.arrays, num_done=num_done)

        images = self.images(source, views, watch, seed=seed, for_scores=for_scores, blocks=blocks)
        texts = fill_texts(self.root, text_stage.made_from, len(source), text_blocks, watch)
        pairs = CachedPairs.join(images, texts)
        watch.add(pairs.broken)
        return pairs

    def images(
        self,
        source: Source,
        views: CacheConfig,
        watch: BrokenItems,
        *,
        seed: int = 0,
        for_scores: bool = False,
        blocks: Blocks = lambda what, stage, start: stage.compute_from(start),
    ) -> Entry:
        """Features of every image's views alone; see `features`."""
        stage = self.image_stage(source, views, seed=seed, for_scores=for_scores)

        def image_blocks(start: int) -> Iterator[ImageBlock]:
            for num_done, block in blocks("images", stage, start):
                yield ImageBlock(**block.arrays, broken=block.broken, num_done=num_done)

        return fill_images(self.root, stage.made_from, len(source), image_blocks, watch)

    def image_stage(self, source: Source, views: CacheConfig, *, seed: int = 0, for_scores: bool = False) -> Stage:
        """The views of every image through the image tower, named by what the entry in the cache is named by."""
        is_stored = views.views == "stored"
        with_crops = not is_stored and any(view.startswith("crop") for view in views.views)
        runner = self._runner_for_scores if for_scores else self.runner
        made_from = {
            **self._image_key,
            "precision": runner.precision,
            "backend": runner.image_backend,
            "data": source.fingerprint(),
            "views": "stored" if is_stored else list(views.views),
            # The centre does not depend on the crops' settings, so changing those keeps its entry
            "crop": [views.crop_scale, seed] if with_crops else None,
        }

        def compute(start: int, stop: int) -> Block:
            (block,) = image_blocks(
                source,
                runner.encode_images,
                self.preprocess,
                views=views.views,
                crop_scale=views.crop_scale,
                seed=seed,
                start=start,
                stop=stop,
                block_size=IMAGES_PER_BLOCK,
            )
            return Block({"features": block.features, "indices": block.indices}, block.broken)

        on_gpu = self.device.type == "cuda"
        return Stage("encoding images", made_from, len(source), IMAGES_PER_BLOCK, compute, on_gpu)

    def text_stage(self, source: Source, *, for_scores: bool = False) -> Stage:
        """Every caption through the text tower; see `image_stage`."""
        runner = self._runner_for_scores if for_scores else self.runner

        def compute(start: int, stop: int) -> Block:
            (block,) = text_blocks(
                source,
                runner.encode_tokens,
                self.tokenizer,
                start=start,
                stop=stop,
                block_size=CAPTIONED_PER_BLOCK,
            )
            return Block({name: getattr(block, name) for name in ("features", "counts", "caption_ids")})

        made_from = {
            **self._text_key,
            "precision": runner.precision,
            "backend": runner.text_backend,
            "data": source.fingerprint(),
        }
        on_gpu = self.device.type == "cuda"
        return Stage("encoding captions", made_from, len(source), CAPTIONED_PER_BLOCK, compute, on_gpu)


def texts_in_memory(runner: Runner, source: Source, tokenizer: Tokenizer) -> list[TextBlock]:
    """A text tower's features of a source; see `features_in_memory`."""
    share = distributed.own_share(len(source))
    texts = text_blocks(source, runner.encode_tokens, tokenizer, start=share.start, stop=share.stop)
    return list(itertools.chain.from_iterable(distributed.gather_objects(list(texts))))


def features_in_memory(
    runner: Runner, source: Source, tokenizer: Tokenizer, preprocess: PreprocessConfig
) -> CachedPairs:
    """The towers' features of a source as inference sees it, kept nowhere: for towers that are being trained.

    Several ranks encode a share each and hand it to all others.
    """
    share = distributed.own_share(len(source))
    images = image_blocks(source, runner.encode_images, preprocess, start=share.start, stop=share.stop)
    return CachedPairs.from_blocks(
        itertools.chain.from_iterable(distributed.gather_objects(list(images))),
        texts_in_memory(runner, source, tokenizer),
    )
