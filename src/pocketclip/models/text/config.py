"""Settings of the text towers, without torch: a tower's module is imported when it is built."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pocketclip.config import Config
from pocketclip.models.origin.config import InheritConfig
from pocketclip.models.origin.packages import TEXT_PACKAGES
from pocketclip.tokenizer import Tokenizer, TokenizerKind, check_tokenizer_settings

if TYPE_CHECKING:
    from pocketclip.models.text.clip import ClipTextEncoder
    from pocketclip.models.text.huggingface import HuggingFaceTextEncoder

NOT_MAKE_UP = frozenset(
    ("tokenizer", "tokenizer_kind", "vocabulary", "vocabulary_at_most", "pretrained", "frozen_layers", "inherit")
)
"""Settings that do not shape what a built tower computes."""
BERT_VOCABULARY = "all-MiniLM-L6-v2"
"""The packaged tower whose tokenizer is that of bert-base-uncased and distilbert-base-uncased (30,522 ids)."""


class HuggingFaceTextEncoderConfig(Config):
    """A transformers model without head or pooler."""

    gives_tokens: ClassVar[bool] = True

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """A hub name such as `distilbert-base-uncased`, or `all-MiniLM-L6-v2` from its pip package."""
    pretrained: str = "hub"
    """`hub`, `package` (a pip package carries the weights), `none`, or a folder as transformers saves it."""
    tokenizer: str = "model"
    """`model` (the one that belongs to it), `bert` (BERT's uncased vocabulary from a pip package), `captions`
    (a small one learned from the training captions), or a `tokenizer.json`."""
    tokenizer_kind: TokenizerKind = "wordpiece"
    """Of a tokenizer learned from captions."""
    vocabulary: Literal["all", "occurring"] = "all"
    """`occurring` drops what neither the training captions nor single letters need, from the tokenizer and from the
    table of word embeddings; other words are then split further."""
    vocabulary_at_most: PositiveInt | None = Field(default=None, exclude_if=lambda got: got is None)
    """Tokens that `vocabulary: occurring` keeps at most, the most frequent ones; None keeps all that occur."""
    vocabulary_size: PositiveInt = 8192
    """Of a tokenizer learned from captions; no effect on others."""
    context_length: PositiveInt = 64
    pooling: Literal["mean", "cls", "eot"] = "mean"
    """`mean` over the tokens, the first token, or the last one."""
    joined_layers: tuple[int, ...] = ()
    """Layers (0 is the word embeddings) whose pooled states are joined before the last layer's."""
    frozen_layers: NonNegativeInt = 0
    """Leading layers, the word embeddings first, that stay as pretrained in training."""
    num_layers: PositiveInt | None = None
    """Only the first layers; None keeps all."""
    architecture: dict[str, Any] | None = None
    """The model's own configuration; what it leaves out is looked up by name. A bundle holds all of it."""
    inherit: "InheritConfig[HuggingFaceTextEncoderConfig] | None" = None
    """A larger tower to start from, with `pretrained: none`; `architecture` says what is smaller here."""

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "HuggingFaceTextEncoderConfig":
        check_tokenizer_settings(self.tokenizer, self.tokenizer_kind, self.vocabulary, self.vocabulary_at_most)
        if self.inherit is not None and self.pretrained != "none":
            raise ValueError(f"inherit brings the weights, so pretrained should be none (got {self.pretrained})")
        return self

    def build(
        self, *, load_pretrained: bool = True, vocabulary_size: int | None = None, for_queries: bool = False
    ) -> "HuggingFaceTextEncoder":
        """Create the tower, without `load_pretrained` with random weights, for a bundle that brings its own.

        A given `vocabulary_size` replaces the architecture's own, for a tokenizer learned from captions. A tower
        `for_queries` gives the same bits and is quick to load, but cannot be trained.

        Raises:
            UserError: unknown name, or weights that cannot be had.
        """
        from pocketclip.models.text.huggingface import HuggingFaceTextEncoder, quick_tower, random_tower
        from pocketclip.models.text.huggingface_folder import fill_tower, find_architecture, tower_folder

        origin = self.pretrained if load_pretrained else "none"
        architecture = dict(self.architecture or {})
        if "model_type" not in architecture:
            architecture = {**find_architecture(self.name, self.pretrained), **architecture}
        if vocabulary_size is not None:
            architecture["vocab_size"] = vocabulary_size
        tower: Any = quick_tower(architecture, self.num_layers) if for_queries else None
        if tower is None:
            tower = random_tower(self.name, architecture, self.num_layers, self.context_length)
        if origin != "none":
            fill_tower(tower, tower_folder(self.name, origin))
        encoder = HuggingFaceTextEncoder(tower, self.pooling, self.joined_layers, self.frozen_layers)
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(encoder, HuggingFaceTextEncoderConfig, "text_encoder")
        return encoder

    def build_tokenizer(self) -> Tokenizer:
        """The tokenizer that `tokenizer` names; `captions` is not built here but with the data at hand.

        Raises:
            UserError: it cannot be had.
        """
        from pocketclip.models.text.huggingface_folder import hub_folder, tower_folder

        if self.tokenizer not in ("bert", "model"):
            return Tokenizer.from_file(Path(self.tokenizer), self.context_length)
        if self.tokenizer == "bert":
            folder = tower_folder(BERT_VOCABULARY, "package")
        elif self.pretrained == "none" and self.name not in TEXT_PACKAGES:
            folder = hub_folder(self.name, ["tokenizer.json"])
        else:
            folder = tower_folder(self.name, "package" if self.pretrained == "none" else self.pretrained)
        return Tokenizer.from_file(folder / "tokenizer.json", self.context_length)

    def as_built(self, architecture: Mapping[str, Any]) -> "HuggingFaceTextEncoderConfig":
        """The config that builds the tower again whose `architecture` this is, without a hub."""
        return self.model_copy(update={"architecture": dict(architecture)})


class ClipTextEncoderConfig(Config):
    """A transformer of CLIP's make, with convolutions in the place of any of its layers."""

    gives_tokens: ClassVar[bool] = False

    kind: Literal["clip"] = "clip"
    width: PositiveInt = 512
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 8
    feed_forward_ratio: PositiveFloat = 4.0
    """Width of the feed-forward parts, in widths of the tower."""
    convolution_layers: tuple[NonNegativeInt, ...] = ()
    """Layers (0 is the first) that convolve over the sequence where the others attend; MobileCLIP-S0 has the first and
    the last of six."""
    kernel_size: PositiveInt = 11
    """Tokens that a convolution sees; odd."""
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    """`quick_gelu` is what OpenAI's own weights were trained with."""
    causal: bool = True
    """Whether tokens attend to earlier ones only, as in CLIP."""
    padding: Literal["hidden", "seen"] = "hidden"
    """`seen` fills every text up to `context_length` with id 0, and the filling takes part like tokens: the larger
    MobileCLIPs were trained so, at the price of computing the whole length for the shortest text. `hidden` leaves it
    out. Either way a text's feature does not depend on the texts beside it."""
    pooling: Literal["eot", "last", "mean"] = "eot"
    """`eot`: the token with the highest id, which in CLIP's vocabulary ends the text; `last`: the last token, for other
    vocabularies; `mean`: of all tokens."""
    vocabulary_size: PositiveInt = 49_408
    """Ids that are embedded; of a tokenizer learned from captions, the most it may have."""
    context_length: PositiveInt = 77
    tokenizer: str = "clip"
    """`clip` (CLIP's 49,408 byte pairs, from the open_clip package or the hub), `captions` (a small one learned from
    the training captions), or a file: a `tokenizer.json`, or byte pairs as CLIP publishes them."""
    tokenizer_kind: TokenizerKind = "wordpiece"
    """Of a tokenizer learned from captions."""
    vocabulary: Literal["all", "occurring"] = "all"
    """`occurring` drops what neither the training captions nor single letters need, from the tokenizer and from the
    table of word embeddings; other words are then split further."""
    vocabulary_at_most: PositiveInt | None = Field(default=None, exclude_if=lambda got: got is None)
    """Tokens that `vocabulary: occurring` keeps at most, the most frequent ones; None keeps all that occur."""
    pretrained: Literal["none"] = "none"
    """Weights come with the whole model: see `model.pretrained`."""
    frozen_layers: NonNegativeInt = 0
    """Leading layers, the embeddings first, that stay as pretrained in training."""
    inherit: "InheritConfig[ClipTextEncoderConfig] | None" = None
    """A larger tower to start from."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "ClipTextEncoderConfig":
        check_tokenizer_settings(self.tokenizer, self.tokenizer_kind, self.vocabulary, self.vocabulary_at_most)
        if self.tokenizer == "captions" and self.pooling == "eot":
            raise ValueError("pooling: eot knows the end of a text in CLIP's vocabulary only; take last or mean")
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} should be a multiple of num_heads {self.num_heads}")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size should be odd (got {self.kernel_size})")
        if any(layer >= self.num_layers for layer in self.convolution_layers):
            raise ValueError(f"convolution_layers: there are layers 0 to {self.num_layers - 1}")
        if self.causal and self.convolution_layers:
            raise ValueError("convolution_layers look ahead, so causal should be false with them")
        if self.causal and self.padding == "seen":
            raise ValueError("padding: seen has no effect on a causal tower, whose tokens do not look ahead")
        if self.frozen_layers > self.num_layers:
            raise ValueError(f"frozen_layers: there are embeddings and {self.num_layers} layers")
        return self

    @property
    def name(self) -> str:
        """What the tower is, in a few words."""
        convolutions = f", {len(self.convolution_layers)} of them convolutions" if self.convolution_layers else ""
        return f"transformer of {self.num_layers} x {self.width}{convolutions}"

    def build(
        self, *, load_pretrained: bool = True, vocabulary_size: int | None = None, for_queries: bool = False
    ) -> "ClipTextEncoder":
        """Create the tower with random weights, or with a larger one's unless `load_pretrained` is False.

        A given `vocabulary_size` replaces the config's own, for a tokenizer learned from captions. A tower
        `for_queries` is no other one.
        """
        del for_queries
        from pocketclip.models.text.clip import ClipTextEncoder

        size = self.vocabulary_size if vocabulary_size is None else vocabulary_size
        shape = self.model_dump(exclude={"kind", *NOT_MAKE_UP}) | {"vocabulary_size": size}
        encoder = ClipTextEncoder(**shape, frozen_layers=self.frozen_layers)
        if self.inherit is not None and load_pretrained:
            self.inherit.fill(encoder, ClipTextEncoderConfig, "text_encoder")
        return encoder

    def build_tokenizer(self) -> Tokenizer:
        """The tokenizer that `tokenizer` names; `captions` is not built here but with the data at hand.

        Raises:
            UserError: it cannot be had.
        """
        from pocketclip.models.text.byte_pairs import clip_tokenizer

        if self.tokenizer == "clip" or self.tokenizer.endswith(".gz"):
            return clip_tokenizer(self.tokenizer, context_length=self.context_length)
        return Tokenizer.from_file(Path(self.tokenizer), self.context_length)

    def as_built(self, architecture: Mapping[str, Any]) -> "ClipTextEncoderConfig":
        """The config that builds the tower again whose `architecture` this is."""
        return self.model_copy(update={"vocabulary_size": architecture["vocab_size"]})


TextEncoderConfig = Annotated[HuggingFaceTextEncoderConfig | ClipTextEncoderConfig, Field(discriminator="kind")]
"""The union of every family; its members are told apart by `kind`."""
