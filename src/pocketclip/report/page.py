"""Pages that stand alone: one file that fetches nothing and runs nothing, from the templates in this folder."""

from importlib import resources
from typing import Any

from pocketclip.errors import require


def render_page(template: str, **values: Any) -> str:
    """Fill a template; whatever users wrote is escaped.

    Args:
        template: a file of this folder.
        values: what the template shows.
    """
    jinja2 = require("jinja2", extra="study")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=jinja2.FunctionLoader(_read)
    )
    page: str = environment.get_template(template).render(**values)
    return page


def _read(name: str) -> str:
    return (resources.files("pocketclip.report") / name).read_text(encoding="utf-8")
