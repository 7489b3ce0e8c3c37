"""What tasks are measured on, and what several of them need of it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data import hold_out
from pocketclip.data.source import Source, Subset
from pocketclip.data.sources.texts import LabelledTexts
from pocketclip.embedder import Embedder
from pocketclip.evaluate.encoded import EMBEDDING, Encoded, MakeEncoder, whole
from pocketclip.evaluate.identities import Ids
from pocketclip.features.encode import Embeddings, with_captions
from pocketclip.head import Head
from pocketclip.stages.watch import Watch

Answers = Mapping[str, npt.NDArray[Any]]
"""What came of every single question, as arrays that a study can store."""
HELD_OUT_SHARE = 0.2
"""Of the data, for testing, where no training data are given."""


class TaskData:
    """What tasks are measured on, images or texts; what several of them need is made once.

    Without a `train` part, tasks that need `training data` take four fifths of the source or the texts.
    """

    def __init__(
        self,
        source: Source | None = None,
        *,
        train: Source | None = None,
        texts: LabelledTexts | None = None,
        train_texts: LabelledTexts | None = None,
        keeps_items: bool = False,
        encoded: Encoded | None = None,
    ) -> None:
        self._source, self._train = source, train
        self._texts, self._train_texts = texts, train_texts
        self.encoded = Encoded() if encoded is None else encoded
        """Of several `TaskData` with a source in common the same, so that its images are read once."""
        self._embedded: tuple[Embedder, Embeddings] | None = None
        self._parts: dict[bytes, Subset] = {}
        self.keeps_items = keeps_items
        self.items: tuple[Answers, Ids] | None = None
        """What the last task kept of single items."""
        self.head: Head | None = None
        """What the last task learned, where `classify` can use it."""

    @property
    def opened(self) -> tuple[Source | None, Source | None]:
        """The images and those to learn from, where they were given."""
        return self._source, self._train

    @property
    def held(self) -> list[Source]:
        """All whose embeddings may be held, parts included."""
        return [*(source for source in self.opened if source is not None), *self._parts.values()]

    @property
    def source(self) -> Source:
        """The images."""
        assert self._source is not None, "a task needs images, and was given none"
        return self._source

    @cached_property
    def images(self) -> tuple[Source, Source]:
        """Images to learn from, and to be tested on."""
        return hold_out(self.source, HELD_OUT_SHARE) if self._train is None else (self._train, self.source)

    @cached_property
    def texts(self) -> tuple[LabelledTexts, LabelledTexts]:
        """Texts to learn from, and to be tested on."""
        assert self._texts is not None, "a task needs texts, and was given none"
        every = self._texts
        return every.hold_out(HELD_OUT_SHARE) if self._train_texts is None else (self._train_texts, every)

    def expect(self, model: Embedder, encoders: Mapping[str, MakeEncoder], *, with_training: bool) -> None:
        """Say what a task will ask about the images, and about those to learn from."""
        for source in self.opened if with_training else (self._source,):
            if source is not None and encoders:
                self.encoded.expect(model, source, encoders)

    def embeddings(self, model: Embedder, watch: Watch) -> Embeddings:
        """The whole source in a model's space, as exact as scores ask for; made once for a model."""
        if self._embedded is None or self._embedded[0] is not model:
            exact = self.encoded.exact(model)
            exact.text_reader()  # before any work
            self._embedded = model, with_captions(exact, self.source, self.image_embeddings(model, watch))
        return self._embedded[1]

    def image_embeddings(
        self, model: Embedder, watch: Watch, *, only: npt.NDArray[np.int64] | None = None
    ) -> Embeddings:
        """The same without texts, which need not be encoded then; made once for a model.

        Where a task asks about images of the numbers `only`, and no other one about the rest, these alone are read.
        """
        if only is None or self.encoded.is_asked(model, self.source):
            return self.encoded.images(model, self.source, watch)
        part = self._parts.setdefault(only.tobytes(), Subset(self.source, only, self.source.name))
        found = self.encoded.images(model, part, watch)
        return Embeddings(
            found.images, found.texts, found.text_images, only[found.indices], found.broken, found.pictures
        )

    def keep(self, answers: Answers, ids: Ids) -> None:
        """Where items are kept: what came of each, as `Task.units` reads it, and (N,) who the N units are.

        Ids are equal for the same items in whatever order and place they lie, such as `picture_id`s.
        """
        if self.keeps_items:
            self.items = answers, ids

    def embedded_parts(
        self, model: Embedder, watch: Watch, name: str = EMBEDDING, make: MakeEncoder = whole
    ) -> tuple[Embeddings, Embeddings]:
        """Images to learn from and to be tested on, without texts, by their numbers in each; made once for a model.

        Of another encoder than the whole model its name and what makes it.
        """
        train, test = self.images
        every = self.encoded.images(model, self.source, watch, name, make)
        if self._train is None:
            assert isinstance(train, Subset)
            assert isinstance(test, Subset)
            return every.part(train.indices), every.part(test.indices)
        return self.encoded.images(model, train, watch, name, make), every
