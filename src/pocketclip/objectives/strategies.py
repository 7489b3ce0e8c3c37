"""Which strategies a stage may take, and with what: each that would have no effect is refused with the reason."""

from typing import Any


def check_strategies(recipe: Any) -> None:
    """Refuse further views, dropped patches, dropped tokens and hard negatives where they do not go.

    It takes a `Recipe`, or what has its sections.

    Raises:
        ValueError: what does not go together, and what to do.
    """
    trained_before = _starts_from_weights(recipe.model)
    for name, stage in recipe.stages.items():
        trains_images = stage.learning_rate.image_encoder is not None
        _check_views(recipe, name, stage, trains_images)
        if stage.keep_patches is not None:
            _check_patches(recipe.model, name, stage, trains_images)
        if stage.text_tokens is not None:
            _check_tokens(recipe, name, stage)
        if stage.hard_negatives is not None:
            _check_hard_negatives(recipe, name, stage, trained_before)
        if stage.identity_batches is not None:
            _check_identity_batches(recipe, name, stage)
        trained_before = trained_before or trains_images


def _check_views(recipe: Any, name: str, stage: Any, trains_images: bool) -> None:
    views = recipe.objective.needs.views
    if stage.augment_further is not None and views == 1:
        raise ValueError(
            f"{name}.augment_further draws the further views of an image, and this objective has none; leave it out, "
            "or add objective.simclr: {}"
        )
    if views > 1 and stage.cache is None and not trains_images:
        raise ValueError(
            f"the further views of objective.kind {recipe.objective.kind} teach the image tower, which {name} freezes: "
            f"give {name}.learning_rate.image_encoder, or leave simclr out"
        )


def _check_patches(model: Any, name: str, stage: Any, trains_images: bool) -> None:
    tower = model.image_encoder
    if stage.cache is not None:
        raise ValueError(f"{name}.keep_patches has no effect with cache: no image tower is run")
    if not trains_images:
        raise ValueError(
            f"{name}.keep_patches has an effect on an image tower in training only: give "
            f"{name}.learning_rate.image_encoder, or leave it out"
        )
    if tower.kind != "timm":
        raise ValueError(f"{name}.keep_patches: {tower.name} has no patches to drop; take a ViT of timm")
    if tower.joined_stages:
        raise ValueError(
            f"{name}.keep_patches: joined_stages averages maps of all places, so none may be dropped; leave one out"
        )


def _check_tokens(recipe: Any, name: str, stage: Any) -> None:
    text, keep = recipe.model.text_encoder, stage.text_tokens.keep
    if stage.is_heads_only:
        raise ValueError(f"{name}.text_tokens has no effect with cache: no text tower is run")
    if recipe.objective.needs.pairs:
        raise ValueError(f"{name}.text_tokens: a sentence without some of its words may be true where it was false")
    if keep >= text.context_length:
        raise ValueError(
            f"{name}.text_tokens.keep: no text has more than model.text_encoder.context_length, {text.context_length} "
            f"(got {keep}); take fewer, or leave it out"
        )
    if getattr(text, "padding", "") == "seen":
        raise ValueError(
            f"{name}.text_tokens saves nothing with padding: seen, which fills every text up; leave it out"
        )


def _check_hard_negatives(recipe: Any, name: str, stage: Any, trained_before: bool) -> None:
    group = stage.hard_negatives.group
    if recipe.objective.needs.pairs:
        raise ValueError(f"{name}.hard_negatives: pairs of images stay as they are; leave it out")
    if stage.epoch == "captions":
        raise ValueError(
            f"{name}.hard_negatives: with epoch: captions the nearest neighbour of an image is itself with another "
            "caption, which is no negative; leave epoch out"
        )
    if group > stage.batch_size:
        raise ValueError(f"{name}.hard_negatives.group: {group} is more than {name}.batch_size, {stage.batch_size}")
    if not trained_before:
        raise ValueError(
            f"{name}.hard_negatives finds neighbours with the image tower as the stage begins, and this one is random; "
            "start from pretrained weights, or train a stage without it first (early_stages)"
        )


def _check_identity_batches(recipe: Any, name: str, stage: Any) -> None:
    views = stage.identity_batches.views
    if not recipe.objective.needs.identities:
        raise ValueError(
            f"{name}.identity_batches: objective.kind {recipe.objective.kind} does not look at identities; leave it "
            "out, or take kind person"
        )
    if stage.hard_negatives is not None:
        raise ValueError(
            f"{name}.identity_batches and {name}.hard_negatives both say who meets in a batch; leave one of them out"
        )
    if stage.batch_size % views or stage.batch_size == views:
        raise ValueError(
            f"{name}.identity_batches.views: {name}.batch_size has to be a multiple of it, of two identities at least "
            f"(got {views} views and a batch of {stage.batch_size})"
        )


def _starts_from_weights(model: Any) -> bool:
    tower = model.image_encoder
    whole = model.bundle is not None or model.pretrained != "none"
    return whole or tower.pretrained != "none" or tower.inherit is not None
