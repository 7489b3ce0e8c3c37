"""Frozen towers run once over a source, through the feature cache."""

from collections.abc import Callable
from pathlib import Path

import torch

from pocketclip.config import digest
from pocketclip.data.broken import BrokenItems
from pocketclip.data.cache import CacheConfig, CachedPairs, fill_images, fill_texts
from pocketclip.data.encode import image_blocks, text_blocks
from pocketclip.data.source import Source
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.inference import Runner, module_fingerprint
from pocketclip.models.precision import Precision
from pocketclip.preprocess import PreprocessConfig
from pocketclip.tokenizer import Tokenizer

OnProgress = Callable[[str, int, int], None]
"""Called with what is encoded, samples done and samples in all."""


class FrozenTowers:
    """The two towers of a model, their fingerprints and the cache their features go to.

    Args:
        model: its towers must not change while this is in use.
        tokenizer: of the text tower.
        preprocess: of the image tower.
        root: folder of the cache.
        device: where to compute.
        precision: `auto` is bfloat16 where the device multiplies it in hardware.
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
    ) -> None:
        self.model, self.tokenizer, self.preprocess = model, tokenizer, preprocess
        self.root, self.device, self.precision = root, device, precision
        size = preprocess.image_size
        self.runner = Runner(model, device=device, precision=precision, image_size=size, heads=False)
        common = {"precision": self.runner.precision, "device": device.type, "torch": torch.__version__}
        image_settings = digest(model.image_encoder.settings)
        text_settings = digest(model.text_encoder.settings)
        self._image_key = {
            **common,
            "tower": module_fingerprint(model.image_encoder, image_settings),
            "preprocess": preprocess.model_dump(mode="json"),
        }
        self._text_key = {
            **common,
            "tower": module_fingerprint(model.text_encoder, text_settings),
            "tokenizer": digest(tokenizer.to_json()),
            "context_length": tokenizer.context_length,
        }

    def features(
        self,
        source: Source,
        views: CacheConfig,
        broken: BrokenItems,
        on_progress: OnProgress,
        *,
        seed: int = 0,
    ) -> CachedPairs:
        """Features of every image's views and of every caption, computed only where the cache lacks them.

        Raises:
            UserError: too many broken items, or a full disk.
        """
        total, data = len(source), source.fingerprint()
        with_crops = any(view.startswith("crop") for view in views.views)
        image_key = {
            **self._image_key,
            "data": data,
            "views": list(views.views),
            # The centre does not depend on the crops' settings, so changing those keeps its entry
            "crop": [views.crop_scale, seed] if with_crops else None,
        }

        def images_done(done: int, found: list[str]) -> None:
            broken.add(found)
            on_progress("images", done, total)

        def texts_done(done: int, found: list[str]) -> None:
            broken.add(found)
            on_progress("captions", done, total)

        images = fill_images(
            self.root,
            image_key,
            total,
            lambda start: image_blocks(
                source,
                self.runner.encode_images,
                self.preprocess,
                views=views.views,
                crop_scale=views.crop_scale,
                seed=seed,
                start=start,
            ),
            images_done,
        )
        texts = fill_texts(
            self.root,
            {**self._text_key, "data": data},
            total,
            lambda start: text_blocks(source, self.runner.encode_tokens, self.tokenizer, start=start),
            texts_done,
        )
        pairs = CachedPairs.join(images, texts)
        broken.add(pairs.broken)
        return pairs


def features_in_memory(
    runner: Runner, source: Source, tokenizer: Tokenizer, preprocess: PreprocessConfig
) -> CachedPairs:
    """The towers' features of a source as inference sees it, kept nowhere: for towers that are being trained."""
    return CachedPairs.from_blocks(
        image_blocks(source, runner.encode_images, preprocess),
        text_blocks(source, runner.encode_tokens, tokenizer),
    )
