"""What a model makes of the images of sources: each is read once, however many tasks ask about it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from pocketclip.data.source import Source
from pocketclip.embedder import Embedder, Floats
from pocketclip.features.encode import Behind, Embeddings, EncodeImages, embed_images
from pocketclip.stages.watch import Watch

MakeEncoder = Callable[[Embedder], EncodeImages]
"""What encodes, such as a tower without its head, is made when first asked, of the model as exact as scores ask for."""
EMBEDDING = "embedding"
"""The name of the encoder that is the whole model."""
TOWER = "tower"
"""The name of the encoder that is a model's tower alone."""


def whole(exact: Embedder) -> EncodeImages:
    """What is behind `EMBEDDING`."""
    return exact.encode_images


@dataclass
class _OfSource:
    """What is known of a source's images, by the names of encoders."""

    source: Source  # held, so that no other one gets its id
    expected: dict[str, MakeEncoder] = field(default_factory=dict)
    found: dict[str, Embeddings] = field(default_factory=dict)


class Encoded:
    """Features of one model's encoders, by their names; those of another model are forgotten when one is asked.

    Tasks may say before what they will ask: then all of it comes of one reading.
    """

    def __init__(self) -> None:
        self._model: Embedder | None = None

    def exact(self, model: Embedder) -> Embedder:
        """The model as exact as scores ask for."""
        if self._model is not model:
            self._exact = model.for_scores()
            self._encoders: dict[str, EncodeImages] = {}
            self._sources: dict[int, _OfSource] = {}
            self._model = model
        return self._exact

    def expect(self, model: Embedder, source: Source, encoders: Mapping[str, MakeEncoder]) -> None:
        """Say which encoders will be asked about a source."""
        self._of(model, source).expected.update(encoders)

    def is_asked(self, model: Embedder, source: Source) -> bool:
        """Whether the embeddings of a whole source are there, or will be asked for."""
        own = self._of(model, source)
        return EMBEDDING in own.found or EMBEDDING in own.expected

    def images(
        self, model: Embedder, source: Source, watch: Watch, name: str = EMBEDDING, make: MakeEncoder = whole
    ) -> Embeddings:
        """What an encoder of this name, the model where none is given, makes of every readable image of a source."""
        exact, own = self.exact(model), self._of(model, source)
        if name not in own.found:
            makers = {**own.expected, name: make}
            names = [other for other in makers if other not in own.found]
            for other in names:
                if other not in self._encoders:
                    self._encoders[other] = makers[other](exact)
            encoders: dict[str, EncodeImages | Behind] = {other: self._encoders[other] for other in names}
            if {TOWER, EMBEDDING} <= encoders.keys() and (head := _head_of(exact)) is not None:
                del encoders[EMBEDDING]
                encoders |= {TOWER: encoders.pop(TOWER), EMBEDDING: Behind(head)}  # no tower sees pixels twice
            found = embed_images(source, list(encoders.values()), exact.preprocess, watch)
            own.found |= zip(encoders, found, strict=True)
        return own.found[name]

    def _of(self, model: Embedder, source: Source) -> _OfSource:
        self.exact(model)
        return self._sources.setdefault(id(source), _OfSource(source))

    def forget_all_but(self, sources: Collection[Source]) -> None:
        """Let go of what was made of other sources."""
        if self._model is not None:
            kept = {id(source) for source in sources}
            self._sources = {number: own for number, own in self._sources.items() if number in kept}


def _head_of(exact: Embedder) -> Callable[[Floats], Floats] | None:
    """What makes the embedding of the tower's features; None where more lies between them."""
    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.models.running.runner import project

    if not isinstance(exact, PretrainedModel) or exact.model.shared_encoder is not None:
        return None
    head, device = exact.model.image_head.to(exact.device).eval(), exact.device
    return lambda features: project(head, features, device)
