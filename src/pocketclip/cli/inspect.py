"""`pocketclip data inspect`."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketclip.cli.options import JSON_HELP, SourceText, asks_json, wants_json
from pocketclip.cli.tables import print_line, print_table
from pocketclip.cli.telling import tell
from pocketclip.errors import printable

if TYPE_CHECKING:
    from pocketclip.curate.inspect import Inspection
    from pocketclip.data import Source

SHOWN = 10
"""Lines of a kind; an option lists all."""


def inspect(
    source: SourceText,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a PNG with random images, their names and captions here.")
    ] = None,
    broken: Annotated[
        bool, typer.Option("--broken", help="List all that training leaves out instead, an item a line, and why.")
    ] = False,
    uncaptioned: Annotated[
        bool, typer.Option("--uncaptioned", help="List all pictures without a caption instead, one a line.")
    ] = False,
    json_lines: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Count, measure and check a source: captions, sizes, broken items, duplicates, what was passed over.

    \b
    Examples:
      pocketclip data inspect folder:photos --sheet photos.png
      pocketclip data inspect folder:photos --broken
    """
    from pocketclip.cli.progress import reporter
    from pocketclip.curate.inspect import inspect_source
    from pocketclip.data import open_source

    opened = open_source(source, place="SOURCE")
    with reporter() as shown:
        inspection = inspect_source(opened, shown)
    if sheet is not None:
        _draw(opened, sheet)
    if broken:
        _list("broken", inspection.unusable, as_json=asks_json(json_lines))
    if uncaptioned:
        _list("without_caption", inspection.without_caption, as_json=asks_json(json_lines))
    if broken or uncaptioned:
        return
    if wants_json(json_lines):
        typer.echo(json.dumps(inspection.to_json(), ensure_ascii=False))
    else:
        _show(inspection)


def _draw(source: "Source", file: Path) -> None:
    """The sheet, and which letters of its captions are not on it."""
    from pocketclip.curate.fonts import Fonts
    from pocketclip.curate.sheet import FONT_SIZE, contact_sheet
    from pocketclip.files import make_folder_of, write_atomically

    fonts, picture = Fonts(FONT_SIZE), io.BytesIO()
    contact_sheet(source, fonts=fonts).save(picture, "PNG")
    make_folder_of(file, elsewhere="--sheet")
    write_atomically(file, picture.getvalue(), elsewhere="--sheet")
    tell(f"Contact sheet: {file}")
    if fonts.missing:
        scripts, some = ", ".join(sorted(set(fonts.missing.values()))), "".join(list(fonts.missing)[:10])
        tell(
            f"No font of this machine has {len(fonts.missing)} of its letters ({some}), of {scripts}. Those of Noto do."
        )


def _list(what: str, lines: Sequence[str], *, as_json: bool) -> None:
    """All of a kind; plain lines in a pipe too, for `head` and `grep`, unless JSON was asked for."""
    for line in lines:
        typer.echo(json.dumps({what: line}, ensure_ascii=False) if as_json else printable(line))


def _show(inspection: "Inspection") -> None:
    """A table, and below it the first items that need a look."""
    values = inspection.to_json()
    for key in ("source", "broken", "same_images", "left_out"):
        del values[key]
    for key in ("num_identities", "images_per_identity", "num_wider_than_high"):
        if not inspection.images_of:
            del values[key]
    highest = values.pop("highest_text_to_image_recall@1")
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name}: {count:g}" for name, count in value.items())
        rows.append([key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)])
    print_table(inspection.name, ["", ""], rows)
    if inspection.num_repeated_captions:
        typer.echo(
            f"{inspection.num_repeated_captions:,} captions are those of several different pictures, "
            f"so R@1 text to image is at most {highest:.1%}."
        )
    for left in inspection.left_out:
        print_line(f"left out: {left}")
    _first("broken", inspection.broken, "--broken")
    _first("without caption", inspection.without_caption, "--uncaptioned")
    _first("same picture", [f"{first} and {second}" for first, second in inspection.same_image])


def _first(what: str, lines: Sequence[str], option: str = "") -> None:
    """The first lines of a kind, and how to list the others."""
    for line in lines[:SHOWN]:
        print_line(f"{what}: {line}")
    if len(lines) > SHOWN:
        others = f"; {option} lists all" if option else ""
        typer.echo(f"{what}: {len(lines) - SHOWN:,} more{others}")
