"""Who is on the pictures of a run: what its objective is told of each batch, and how large its parts are."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from pocketclip.data import Source
from pocketclip.data.identities import NO_IDENTITY, Identities, find_identities, read_identities
from pocketclip.errors import UserError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.objectives.needs import Needs
from pocketclip.objectives.person_terms import PersonSizes
from pocketclip.tokenizer import Tokenizer
from pocketclip.types import ImageTextBatch


def training_identities(source: Source) -> Identities:
    """Who every picture that is trained on shows.

    Raises:
        UserError: some show nobody that is named, or all show one.
    """
    found = read_identities(source)
    if len(found.names) < 2:
        raise UserError(
            f"{source.name}: all of its {len(source):,} pictures show one identity ({found.names[0]}), and a person "
            "search is taught by telling people apart; bring pictures of others."
        )
    nobody = [index for index in (found.values == NO_IDENTITY).nonzero()[0].tolist() if _is_nobody(source, index)]
    if nobody:
        raise UserError(
            f"{source.name}: {len(nobody):,} of {len(source):,} pictures have no identity (the first: "
            f"{source.place(nobody[0])}); name one for each, or leave them out."
        )
    return found


def _is_nobody(source: Source, index: int) -> bool:
    """Whether a picture is told to show nobody; one that cannot be read is left out of its batch anyway."""
    try:
        return source.identity(index) is None
    except UserError:
        return False


def note_shared(train: Identities, split: str, source: Source) -> list[str]:
    """What to say where a split has names of people that are trained on: they are not unseen, if they are the same."""
    names = set(find_identities(source).names)
    if not (shared := sorted(names.intersection(train.names))):
        return []
    return [
        f"data.{split}: {len(shared):,} of {len(names):,} identities have the name of one in data.train (such as "
        f"{shared[0]}); where they are the same people, the score says less of others"
    ]


def sizes_of(needs: Needs, identities: Identities, model: DualEncoder, tokenizer: Tokenizer) -> PersonSizes:
    """What the learned parts of the objective are as large as."""
    widths = model.widths_of_words() if needs.mask_rate else (1, 1)
    return PersonSizes(len(identities.names), tokenizer.vocabulary_size, *widths)


def told_apart(batches: Iterator[ImageTextBatch], identities: Identities | None) -> Iterator[ImageTextBatch]:
    """Batches with who is on each of their pictures, where somebody asks."""
    if identities is None:
        yield from batches
        return
    values = torch.from_numpy(identities.values)
    for batch in batches:
        assert batch.indices is not None
        yield replace(batch, identity_ids=values[batch.indices])
