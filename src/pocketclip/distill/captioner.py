"""Synthetic captions: a model that looks at a picture and writes sentences, each drawn anew."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pocketclip.data.captions import clean_captions
from pocketclip.data.pictures.decode import Pixels
from pocketclip.distill.config import CaptionerConfig
from pocketclip.errors import UserError, first_line, require
from pocketclip.models.running.precision import Precision, autocast, resolve_precision
from pocketclip.models.running.runner import cast_weights, module_fingerprint


@dataclass(frozen=True)
class Captioner:
    """Writes captions; a picture's do not depend on what else is in its batch, nor on any global random state."""

    config: CaptionerConfig
    fingerprint: str
    """Of the weights."""
    model: Any
    tokenizer: Any
    processor: Any
    precision: Precision

    def describe(self) -> dict[str, Any]:
        """What its captions depend on, for the manifest."""
        return {**self.config.model_dump(mode="json"), "fingerprint": self.fingerprint}

    @torch.inference_mode()
    def write(self, pictures: Sequence[Pixels], seeds: Sequence[Sequence[int]]) -> list[tuple[str, ...]]:
        """At most `num_captions` of each (H, W, 3) picture, the first sentence of each text; empty ones are left out.

        The seeds are numbers that name each picture's captions: the same ones give the same captions.
        """
        device, count = self.model.device, self.config.num_captions
        inputs = dict(self.processor(images=[Image.fromarray(one) for one in pictures], return_tensors="pt").to(device))
        choice = _NucleusChoice(self.config.top_p, [np.random.default_rng(seed) for seed in seeds], count)
        with autocast(self.precision, device):
            tokens = self.model.generate(
                **inputs,
                do_sample=True,
                num_beams=1,
                num_return_sequences=count,
                max_new_tokens=self.config.max_tokens,
                logits_processor=[choice],
                temperature=1.0,
                top_k=0,
                top_p=1.0,
            )
        texts = [first_sentence(text) for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        return [clean_captions(texts[first : first + count]) for first in range(0, len(texts), count)]


def load_captioner(config: CaptionerConfig, device: torch.device, precision: Precision = "auto") -> Captioner:
    """The model that a config names; a UserError where it cannot be had."""
    transformers = require("transformers", extra="train")
    transformers.utils.logging.disable_progress_bar()  # it would run into ours
    try:
        model = transformers.AutoModelForImageTextToText.from_pretrained(config.name, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(config.name)
        processor = transformers.AutoImageProcessor.from_pretrained(config.name)
    except Exception as error:  # offline, no such repository, another type of model: a dozen types
        raise UserError(f"captioner.name: {config.name}: cannot be loaded ({first_line(error)}).") from error
    fingerprint = module_fingerprint(model, "")
    if resolve_precision(precision, device) == "bfloat16":
        cast_weights(model)
    return Captioner(config, fingerprint, model.to(device).eval(), tokenizer, processor, precision)


def first_sentence(text: str) -> str:
    """Up to the first full stop, as DataCompDR keeps captions; that of a number, such as 3.5, is none."""
    return re.split(r"\.(?:\s|$)", text.strip(), maxsplit=1)[0]


class _NucleusChoice:
    """Draws each next word itself and leaves only that one to the library, which draws from global random state.

    Nucleus sampling, https://arxiv.org/abs/1904.09751, with one random number a word from a generator of each picture.
    """

    def __init__(self, top_p: float, randoms: Sequence[np.random.Generator], count: int) -> None:
        self.top_p, self.randoms, self.count = top_p, randoms, count

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        """(rows, vocabulary) scores to the same with all but the chosen word at minus infinity."""
        shares, order = scores.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
        reached = shares.cumsum(-1)
        kept = reached - shares < self.top_p  # the first word always is
        mass = (shares * kept).sum(-1)
        drawn = np.concatenate([random.random(self.count) for random in self.randoms]).astype(np.float32)
        wanted = torch.from_numpy(drawn).to(scores.device) * mass
        place = (reached <= wanted[:, None]).sum(-1, keepdim=True)
        place = place.minimum(kept.sum(-1, keepdim=True) - 1)  # rounding may lead beyond the last one
        return torch.full_like(scores, -torch.inf).scatter(1, order.gather(1, place), 0.0)
