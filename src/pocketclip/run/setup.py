"""What a run needs before its first step: a folder, sources, a tokenizer, a model."""

from importlib.metadata import version
from pathlib import Path

import torch

from pocketclip import distributed
from pocketclip.data import Source
from pocketclip.data.source import readable_captions
from pocketclip.errors import UserError
from pocketclip.features.cache import cache_folder
from pocketclip.features.towers import FrozenTowers
from pocketclip.files import holds_only, write_atomically
from pocketclip.models.build import build_model, start_from_bundle
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import resolve_precision
from pocketclip.recipe import Recipe, dump_recipe
from pocketclip.records import code_version
from pocketclip.run.data import LISTS
from pocketclip.run.learned_tokenizer import learned_tokenizer
from pocketclip.stages.watch import SILENT, Watch
from pocketclip.tokenizer import Tokenizer
from pocketclip.train.config import TrainConfig
from pocketclip.vocabulary import keep_occurring

MAX_CAPTIONS_FOR_TOKENIZER = 200_000
FIT = "fit.json"
"""What `pocketclip fit` has decided, before its run begins."""
START = ("recipe.yaml", LISTS, FIT)
"""All that a run leaves that was stopped before its first step."""


def check_ranks_agree(recipe: Recipe, device: torch.device) -> None:
    """Every rank must do the same thing with the same code, or the gradients they average mean nothing."""
    packages = ("torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow")
    own = {
        "pocketclip": code_version(),
        **{name: version(name) for name in packages},
        "precision": ", ".join(resolve_precision(stage.precision, device) for stage in recipe.stages.values()),
        "recipe": dump_recipe(recipe),
    }
    for rank, other in enumerate(distributed.gather_objects(own)):
        what = next((what for what in own if other[what] != own[what]), None)
        if what == "recipe":
            raise UserError(
                f"Rank {rank} has another recipe than rank {distributed.rank()}. "
                f"{_first_difference(other[what], own[what])} Give every rank the same file and the same --set."
            )
        if what is not None:
            raise UserError(
                f"Rank {rank} has {what} {other[what]}, rank {distributed.rank()} has {own[what]}. "
                "Install the same versions on every machine."
            )


def prepare_folder(recipe: Recipe, folder: Path, watch: Watch = SILENT, *, resume: bool) -> None:
    """Make the run's folder and put the resolved recipe there; one that holds another run is refused.

    A run that ended before its first step, since its data were refused or it was killed, leaves nothing that would be
    lost, and is begun again.
    """
    saved = folder / "recipe.yaml"
    if saved.is_file() and (resume or not holds_only(folder, *START)):
        text, before = dump_recipe(recipe), saved.read_text(encoding="utf-8")
        if resume and _but_for_broken(before) != _but_for_broken(text):
            raise UserError(f"{folder}: was begun with another recipe. {_first_difference(before, text)}")
        if not resume:
            raise UserError(
                f"{folder}: holds a run already. Go on with --resume, choose another --out, or delete the folder."
            )
        write_atomically(saved, text)
        return
    if folder.is_dir() and not saved.is_file() and not holds_only(folder, FIT):
        raise UserError(f"{folder}: is not empty and holds no run; choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --out.") from error
    if saved.is_file():
        watch.note(f"{folder}: holds a run that was stopped before its first step; it is begun again.")
    (folder / LISTS).unlink(missing_ok=True)
    write_atomically(saved, dump_recipe(recipe))


def _but_for_broken(recipe: str) -> list[str]:
    """A recipe without its limit of broken items, which a run that it stopped may go on with another one of."""
    return [line for line in recipe.splitlines() if not line.strip().startswith("max_broken_share:")]


def _first_difference(saved: str, text: str) -> str:
    for before, after in zip(saved.splitlines(), text.splitlines(), strict=False):
        if before != after:
            return f"First difference: {before.strip()!r} there, {after.strip()!r} now."
    return "One of them has more lines."


def starting_model(recipe: Recipe, source: Source) -> tuple[Tokenizer, DualEncoder]:
    """The tokenizer and the model with pretrained towers; `source` gives captions where the vocabulary needs them."""
    if recipe.model.bundle is not None:
        return start_from_bundle(recipe.model, recipe.model.bundle)
    text = recipe.model.text_encoder
    if text.tokenizer != "captions":
        tokenizer = text.build_tokenizer()
        model = build_model(recipe.model)
        size = model.architecture().get("vocab_size", tokenizer.vocabulary_size)
        if tokenizer.vocabulary_size > size:
            raise UserError(
                f"model.text_encoder: the tokenizer has {tokenizer.vocabulary_size} ids and the tower embeds {size}; "
                "they do not belong together."
            )
        if text.vocabulary == "occurring":
            needed = model.text_encoder.needed_tokens()
            captions, at_most = first_captions(source), text.vocabulary_at_most
            tokenizer, kept = keep_occurring(tokenizer, captions, also=needed, at_most=at_most)
            model.text_encoder.keep_tokens(kept)
        return tokenizer, model
    if text.pretrained != "none":
        raise UserError(
            f"model.text_encoder.tokenizer: captions needs pretrained: none (got {text.pretrained}); "
            "pretrained word embeddings belong to their own tokenizer."
        )
    tokenizer = learned_tokenizer(
        first_captions(source),
        vocabulary_size=text.vocabulary_size,
        context_length=text.context_length,
        kind=text.tokenizer_kind,
    )
    return tokenizer, build_model(recipe.model, vocabulary_size=tokenizer.vocabulary_size)


def frozen_towers(
    recipe: Recipe,
    stage: TrainConfig,
    tokenizer: Tokenizer,
    model: DualEncoder,
    source: Source,
    on: torch.device,
    inference: str = "auto",
) -> FrozenTowers:
    """A model's towers, in the precision of a stage, through the feature cache.

    The backend is chosen for as many images as `source`, the training data, has; there are at least as many texts.
    Several ranks, which would disturb each other's timing, take the one without set-up.
    """
    num_images = len(source) if distributed.world_size() == 1 else 0
    return FrozenTowers(
        model,
        tokenizer,
        model.image_encoder.preprocess,
        root=cache_folder(),
        device=on,
        precision=stage.precision,
        num_images=num_images,
        num_texts=num_images if recipe.caches_texts else 0,
        inference=inference,
    )


def first_captions(source: Source) -> list[str]:
    """Enough to know the words of a data set by."""
    captions: list[str] = []
    for texts in readable_captions(source):
        captions.extend(texts)
        if len(captions) >= MAX_CAPTIONS_FOR_TOKENIZER:
            break
    return captions
