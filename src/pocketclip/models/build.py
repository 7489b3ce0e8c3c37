"""From a `model` section to a model: towers, heads and shared encoder, and the weights it starts from."""

from pathlib import Path

from torch import nn

from pocketclip.bundle import Bundle, read_bundle
from pocketclip.errors import UserError
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.joints import HeadConfig, IdentityHeadConfig
from pocketclip.models.origin.limit import within_file, within_memory
from pocketclip.models.origin.published import fill_from_published
from pocketclip.models.origin.weights import at_size, load_weights, read_state_dict
from pocketclip.models.readout import Modality
from pocketclip.models.tower import NoTower, Tower
from pocketclip.tokenizer import Tokenizer

PAIR_HEAD = "pair_head."


def build_model(
    config: DualEncoderConfig,
    *,
    load_pretrained: bool = True,
    vocabulary_size: int | None = None,
    text_only: bool = False,
) -> DualEncoder:
    """Create a model; without `load_pretrained` with random towers, for a bundle that brings its own weights.

    A `vocabulary_size` is that of a tokenizer learned from captions. `text_only` leaves out the image tower and its
    head, for callers that only encode queries.

    Raises:
        UserError: a tower is unknown, its weights cannot be had, or the model would not fit in memory.
    """
    with within_memory(config.model_dump()):
        return _build(config, load_pretrained, vocabulary_size, text_only)


def _build(
    config: DualEncoderConfig, load_pretrained: bool, vocabulary_size: int | None, text_only: bool
) -> DualEncoder:
    text_encoder = config.text_encoder.build(
        load_pretrained=load_pretrained, vocabulary_size=vocabulary_size, for_queries=text_only and not load_pretrained
    )
    image_encoder = NoTower() if text_only else config.image_encoder.build(load_pretrained=load_pretrained)
    pair_head = None if config.pair_head is None else config.pair_head.build(config.embed_dim)
    if config.shared_encoder is not None:
        for tower in (image_encoder, text_encoder):
            if not isinstance(tower, NoTower):
                tower.give_tokens()
    image_head = _build_head(config.image_head, image_encoder, config, part="image")
    text_head = _build_head(config.text_head, text_encoder, config, part="text")
    shared_encoder = None
    if config.shared_encoder is not None:
        has_class_token = text_only or image_encoder.has_class_token
        shared_encoder = config.shared_encoder.build(config.embed_dim, has_class_token=has_class_token)
    model = DualEncoder(
        image_encoder,
        text_encoder,
        image_head,
        text_head,
        shared_encoder=shared_encoder,
        temperature=config.temperature,
        learn_temperature=config.learn_temperature,
        logit_bias=config.logit_bias,
        pair_head=pair_head,
    )
    if config.pretrained != "none" and load_pretrained and not text_only:
        expected = f"{config.image_encoder.name} with {config.text_encoder.name}"
        fill_from_published(model, Path(config.pretrained), expected=expected)
    return model


def _build_head(head: HeadConfig, tower: Tower, config: DualEncoderConfig, *, part: Modality) -> nn.Module:
    if isinstance(tower, NoTower):
        return nn.Identity()
    is_adapter = config.shared_encoder is not None and isinstance(head, IdentityHeadConfig)
    if is_adapter and tower.feature_dim != config.embed_dim:
        raise UserError(
            f"model.{part}_head: the {part} tower's tokens are {tower.feature_dim} wide and the shared "
            f"encoder's embed_dim {config.embed_dim}; adapt them with {part}_head: {{kind: linear}}."
        )
    return head.build(tower.feature_dim, config.embed_dim)


def build_for(
    bundle: Bundle, *, config: DualEncoderConfig | None = None, text_only: bool = False
) -> tuple[DualEncoderConfig, DualEncoder]:
    """A bundle's config, or the given one that is to have its weights, and the model that it asks for, yet random.

    Raises:
        UserError: it asks for something else than the bundle's weights; nothing large was made by then.
    """
    place = f"{bundle.folder / 'config.json'}: model"
    with within_file(bundle.config.model, bundle.weights, place=place):
        config = config or DualEncoderConfig.parse(bundle.config.model, place=place)
        return config, build_model(config, load_pretrained=False, text_only=text_only)


def start_from_bundle(config: DualEncoderConfig, place: str) -> tuple[Tokenizer, DualEncoder]:
    """A bundle's tokenizer, and a model to train on with its weights, whose image size may be another.

    All else but a pair head has to be as in the bundle.

    Raises:
        UserError: there is no bundle, or its model is another one.
    """
    bundle = read_bundle(place)
    built = DualEncoderConfig.parse(bundle.config.model, place=f"{bundle.folder / 'config.json'}: model")
    text, length = config.text_encoder, bundle.tokenizer.context_length
    if text.context_length != length:
        raise UserError(
            f"model.text_encoder.context_length: {place} was trained with {length} (got {text.context_length})."
        )
    size = {"vocab_size": built.text_encoder.vocabulary_size}
    text = text.as_built(getattr(built.text_encoder, "architecture", None) or size)
    _, model = build_for(bundle, config=config.model_copy(update={"text_encoder": text}))
    own = {name: value for name, value in model.state_dict().items() if name.startswith(PAIR_HEAD)}
    weights = at_size(model.image_encoder, {**own, **read_state_dict(bundle.weights)}, built.image_encoder.image_size)
    load_weights(model, weights, place=str(bundle.weights), ignore="" if own else PAIR_HEAD)
    return bundle.tokenizer, model
