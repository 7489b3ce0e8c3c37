"""Pages that stand alone: one file that fetches nothing and runs nothing, from the templates in this folder."""

from typing import Any

from pocketclip.errors import require


def render_page(template: str, **values: Any) -> str:
    """Fill a template of this folder with what it shows; whatever users wrote is escaped."""
    jinja2 = require("jinja2", extra="study")
    loader = jinja2.PackageLoader("pocketclip.report", "")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    page: str = environment.get_template(template).render(**values)
    return page
