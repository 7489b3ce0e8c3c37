"""What a model makes of the images of sources: each is read once, however many tasks ask about it."""

from collections.abc import Callable, Collection, Mapping

from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.features.encode import Embeddings, EncodeImages, embed_images
from pocketclip.stages.watch import Watch

MakeEncoder = Callable[[], EncodeImages]
"""What encodes is made when it is first asked, such as a tower without its head."""
EMBEDDING = "embedding"
"""The name of the encoder that is the whole model, as exact as scores ask for."""


class Encoded:
    """Features of one model's encoders, by their names; those of another model are forgotten when one is asked.

    Tasks may say before what they will ask: then all of it comes of one reading.
    """

    def __init__(self) -> None:
        self._model: Embedder | None = None
        self._clear()

    def _clear(self) -> None:
        self._exact: Embedder | None = None
        self._encoders: dict[str, EncodeImages] = {}
        self._found: dict[int, dict[str, Embeddings]] = {}
        self._expected: dict[int, dict[str, MakeEncoder]] = {}
        self._sources: dict[int, Source] = {}  # held, so that no other one gets its id

    def exact(self, model: Embedder) -> Embedder:
        """The model as exact as scores ask for."""
        if self._model is not model:
            self._clear()
            self._model = model
        if self._exact is None:
            self._exact = model.for_scores()
        return self._exact

    def expect(self, model: Embedder, source: Source, encoders: Mapping[str, MakeEncoder]) -> None:
        """Say which encoders will be asked about a source."""
        self.exact(model)
        self._sources[id(source)] = source
        self._expected.setdefault(id(source), {}).update(encoders)

    def is_asked(self, model: Embedder, source: Source) -> bool:
        """Whether the embeddings of a whole source are there, or will be asked for."""
        self.exact(model)
        known = self._found.get(id(source), {}).keys() | self._expected.get(id(source), {}).keys()
        return EMBEDDING in known

    def images(
        self, model: Embedder, source: Source, watch: Watch, name: str = EMBEDDING, make: MakeEncoder | None = None
    ) -> Embeddings:
        """What an encoder of this name, the model where none is given, makes of every readable image of a source."""
        exact = self.exact(model)
        found = self._found.setdefault(id(source), {})
        if name not in found:
            self._sources[id(source)] = source
            makers = {**self._expected.get(id(source), {}), name: make}
            names = [own for own in makers if own not in found]
            encoders = [self._encoder(exact, own, makers[own]) for own in names]
            found |= zip(names, embed_images(source, encoders, exact.preprocess, watch), strict=True)
        return found[name]

    def _encoder(self, exact: Embedder, name: str, make: MakeEncoder | None) -> EncodeImages:
        if name == EMBEDDING or make is None:
            return exact.encode_images
        if name not in self._encoders:
            self._encoders[name] = make()
        return self._encoders[name]

    def forget_all_but(self, sources: Collection[Source]) -> None:
        """Let go of what was made of other sources."""
        kept = {id(source) for source in sources}
        for own in self._sources.keys() - kept:
            del self._sources[own]
            self._found.pop(own, None)
            self._expected.pop(own, None)
