"""Pages that stand alone: one file that fetches nothing and runs nothing, from the templates in this folder."""

from pathlib import Path
from typing import Any

from pocketclip.errors import UserError, require
from pocketclip.files import make_folder_of, write_atomically
from pocketclip.records import Provenance
from pocketclip.report.amounts import day, duration, of_hundred


def render_page(template: str, **values: Any) -> str:
    """Fill a template of this folder with what it shows; whatever users wrote is escaped."""
    jinja2 = require("jinja2", extra="study")
    loader = jinja2.PackageLoader("pocketclip.report", "")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    environment.filters.update(day=day, duration=duration, machine=machine, of_hundred=of_hundred)
    page: str = environment.get_template(template).render(**values)
    return page


def machine(provenance: Provenance) -> str:
    """The hardware, and what a record says of how busy it was where it says so."""
    return str(getattr(provenance, "machine", provenance.hardware))


def write_page(out: Path, template: str, **values: Any) -> Path:
    """Write a page to an HTML file, whole or not at all, and make the folder it lies in."""
    page = render_page(template, **values)
    make_room(out)
    write_atomically(out, page)
    return out


def make_room(out: Path) -> None:
    """Make the folder that a page will lie in.

    Raises:
        UserError: the place is a folder itself, or its folder cannot be made.
    """
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; give the name of an HTML file, such as {out / 'page.html'}.")
    make_folder_of(out)
