"""The recipe of a plan, which `pocketclip train` takes as it is."""

from typing import Any

from pocketclip.hubs import LogSumExp
from pocketclip.recipe import Recipe
from pocketclip.study.fit.candidates import read_table
from pocketclip.study.fit.plans import BANK_CAPTIONS, BANK_PICTURES, TUNED_BATCH, Plan, head_batch, held_out
from pocketclip.study.fit.weigh import EMBED_DIM, HEAD

HALVINGS = 2
"""Of the bank: with 500 captions and 150 pictures it gained half of what it can, or more (docs/log.md)."""
BESIDE_BANK = 30_000
"""Bytes of its header and of the ids of its pictures."""


def recipe_of(
    plan: Plan,
    source: str,
    *,
    captioned: int,
    all_pictures: int,
    budget_seconds: float,
    chunk_size: int | None = None,
    hubs: LogSumExp | None = None,
) -> Recipe:
    """Heads alone, or heads and then both towers until the budget is over.

    Args:
        plan: what was chosen.
        source: as the user wrote it.
        captioned: pictures that may be learned from, of which the plan takes some or all.
        all_pictures: that the source has.
        budget_seconds: of the whole run, for a stage whose steps the budget plans.
        chunk_size: pictures of a pass where memory is short.
        hubs: the bank that scores are corrected with.
    """
    candidate, held = plan.candidate, held_out(plan.num_pictures)
    data: dict[str, Any] = {"train": source, "hold_out": held / plan.num_pictures}
    if plan.num_pictures < captioned:
        data["at_most"] = round(plan.num_pictures * all_pictures / captioned)
    frozen = {"image": 4, "text": 1} if candidate.tuned else {"image": 0, "text": 0}
    batch_size, rate = head_batch(plan.num_pictures)
    heads: dict[str, Any] = {
        "cache": {"views": ["centre", "flip"] if plan.flipped else ["centre"]},
        "num_epochs": plan.head_epochs,
        "batch_size": batch_size,
        "learning_rate": {"heads": rate},
        "optimizer": {"weight_decay": 0.5},
        "schedule": {"kind": "cosine", "warmup": 0.1},
        "evaluate_every": max(1, plan.head_epochs // 4),
        "keep": "best",
    }
    stages = {"train": heads}
    if candidate.tuned:
        stages = {"heads_first": heads, "train": _towers(plan, budget_seconds, chunk_size)}
    values = {
        "data": data,
        "model": {
            "image_encoder": candidate.image.config(frozen_layers=frozen["image"]).model_dump(mode="json"),
            "text_encoder": candidate.text.config(frozen_layers=frozen["text"]).model_dump(mode="json"),
            "image_head": HEAD,
            "text_head": HEAD,
            "embed_dim": EMBED_DIM,
            "temperature": 0.05,
        },
        "objective": {"kind": "contrastive", "loss": {"kind": "multi_positive"}},
        **stages,
        "hubs": None if hubs is None else hubs.model_dump(mode="json"),
        "fit_small_data": True,
        "bundle_weights": "float16" if candidate.half else "float32",
    }
    return Recipe.parse(values, place="fit")


def _towers(plan: Plan, budget_seconds: float, chunk_size: int | None) -> dict[str, Any]:
    """The stage that trains both towers after the heads."""
    settings: dict[str, Any] = {
        "batch_size": TUNED_BATCH,
        "captions_per_image": 2,
        "learning_rate": {"heads": 0.0005, "image_encoder": 0.0002, "text_encoder": 0.00005},
        "optimizer": {"weight_decay": 0.1},
        "schedule": {"kind": "cosine", "warmup": 0.1},
        "augment": {"crop_scale": [0.6, 1.0], "flip": True},
        "batch_norm": "frozen",
        "chunk_size": chunk_size,
        "evaluate_every": 2,
        "keep": "best",
        "checkpoint_every": 100,
    }
    if plan.tuned_epochs >= read_table().tuning.most_epochs:
        return {**settings, "num_epochs": plan.tuned_epochs}  # more is not known to help
    return {**settings, "budget": {"seconds": round(budget_seconds, 1)}}


def bank_within(room: float) -> LogSumExp | None:
    """The bank that fits into so many bytes; None where one that helps does not."""
    for halvings in range(HALVINGS + 1):
        bank = LogSumExp(num_captions=BANK_CAPTIONS >> halvings, num_images=BANK_PICTURES >> halvings)
        if bytes_of(bank) <= room:
            return bank
    return None


def bytes_of(bank: LogSumExp) -> int:
    """What a bank adds to a bundle at most."""
    return (bank.num_captions + bank.num_images) * EMBED_DIM * 2 + BESIDE_BANK
