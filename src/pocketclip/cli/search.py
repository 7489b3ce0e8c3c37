"""`pocketclip search`."""

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli.loading import loading
from pocketclip.cli.options import Json
from pocketclip.cli.tables import print_line
from pocketclip.cli.telling import tell
from pocketclip.errors import printable

if TYPE_CHECKING:
    from pocketclip.asked.index import Index


def search(
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="A sentence; or a picture's file.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture, to find those that are like it.")
    ] = None,
    index: Annotated[Path, typer.Option("--index", help="Folder that `pocketclip index` made.")] = Path("index"),
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many results.")] = 10,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Where the index's model is now, if it was moved.")
    ] = None,
    corrected: Annotated[
        bool | None,
        typer.Option(
            "--corrected/--plain",
            help="Rank by scores with hubs corrected, as sentences are where the index's model has a bank, or by the "
            "cosine alone; the score that is shown is the cosine.",
            show_default=False,
        ),
    ] = None,
    json_lines: Json = False,
) -> None:
    """Find images by a sentence, or by a picture.

    \b
    Examples:
      pocketclip search "two dogs in the snow" --index index -n 5
      pocketclip search --image dog.jpg --index index
    """
    from pocketclip.errors import UserError
    from pocketclip.inputs import is_picture
    from pocketclip.search import Index as StoredIndex

    if corrected and image is not None:
        raise UserError("--corrected: a bank corrects what sentences find; leave it out where --image is given.")
    if (query is None or not query.strip()) == (image is None):
        raise UserError(
            'search: give one thing to search for: a sentence, such as "two dogs in the snow", or --image FILE.'
        )
    StoredIndex.open(index)  # before the model: a wrong folder should not cost ten seconds

    from pocketclip.asked.index import Index

    opened = Index.open(index, model=model)
    with loading("the index's model"):
        hits = opened.by_picture(image, count) if query is None else opened.search(query, count, corrected=corrected)
    if query is not None:
        _tell_how_it_was_read(opened, query)
    for hit in hits:
        if json_lines:
            typer.echo(json.dumps(hit.to_json(), ensure_ascii=False))
        else:
            gone = "  (gone)" if hit.exists is False else ""
            caption = hit.item.captions[0] if hit.item.captions else ""
            place = hit.place.removeprefix(f"{Path.cwd()}{os.sep}")  # short, and it can still be opened from here
            print_line(caption, before=f"{hit.score:6.3f}  {place}{gone}  ")
    by_words = query is not None and not is_picture(query)
    for remark in [*opened.remarks(hits), *(opened.bank_remarks() if by_words and corrected is not False else [])]:
        tell(remark)
    if any(after.score > before.score for before, after in pairwise(hits)):
        tell("Ranked with hubs corrected; the scores shown are cosines, by which --plain ranks.")
    if len(hits) == len(opened) < count:
        tell(f"The index holds no more than these {len(hits)} images.")


def _tell_how_it_was_read(opened: "Index", query: str) -> None:
    """A word where it may surprise whether a sentence was searched for, or the picture that it names."""
    from pocketclip.inputs import is_picture

    shown = printable(query)
    if is_picture(query):
        tell(f"{shown} is a picture: these are like it.")
        return
    if os.path.isfile(query):  # noqa: PTH113 (a Path refuses long sentences)
        tell(f"{shown} is a file, too, and was searched for as words; as a picture: --image {shown}")
    if opened.reader.is_cut(query):
        length = opened.reader.text_reader().context_length
        tell(f"The sentence is too long: only its first {length} tokens were read.")
