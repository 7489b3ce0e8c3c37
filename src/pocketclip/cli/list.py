"""`pocketclip list`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer


def _recipes() -> Iterable[str]:
    from pocketclip.shipped_recipes import find_recipe, list_recipes

    yield from (_with_first_line(name, find_recipe(name)) for name in list_recipes())
    yield from (f"{line} (pocketclip study)" for line in _studies())


def _studies() -> Iterable[str]:
    from pocketclip.shipped_recipes import find_study, list_studies

    return (_with_first_line(name, find_study(name)) for name in list_studies())


def _with_first_line(name: str, file: Path) -> str:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    return f"{name:48} {first.removeprefix('# ')}"


def _hardware() -> Iterable[str]:
    from pocketclip.cost.plan import hardware_table

    for name, machine in hardware_table().items():
        price = "" if machine.dollars_per_hour is None else f"${machine.dollars_per_hour:.2f} an hour: "
        yield f"{name:14} {machine.description}; {price}{machine.priced_by}"


def _sizes() -> Iterable[str]:
    from pocketclip.cost.sizes import count_size, size_table
    from pocketclip.image_size import written
    from pocketclip.models.sizes import list_sizes

    yield "millions of parameters, each tower with its head"
    table = size_table()
    for name in list_sizes():
        counts = table.get(name) or count_size(name)  # one that was just added
        shared = f"   shared {counts.shared / 1e6:4.1f}" if counts.shared else ""
        yield (
            f"{name:30} image {counts.image / 1e6:6.1f} at {written(counts.image_size)} px   "
            f"text {counts.text / 1e6:6.1f}, {counts.text_embeddings / 1e6:4.1f} of them word embeddings{shared}"
        )


def _sources() -> Iterable[str]:
    from pocketclip.config import kinds_of
    from pocketclip.data import SourceConfig

    for kind, config in sorted(kinds_of(SourceConfig).items()):
        places = ",".join(place.upper() for place in config.positional)
        others = [name for name in config.model_fields if name not in ("kind", *config.positional)]
        yield f"{kind}:{places}".ljust(36) + (f"  settings: {', '.join(others)}" if others else "")


def _losses() -> Iterable[str]:
    from pocketclip.config import kinds_of
    from pocketclip.losses import LossConfig
    from pocketclip.objectives import ObjectiveConfig
    from pocketclip.objectives.terms import TermConfig

    unions = ((LossConfig, ""), (TermConfig, " (objective distillation)"), (ObjectiveConfig, " (an objective)"))
    return (
        f"{kind:16} {(member.__doc__ or '').splitlines()[0]}{where}"
        for union, where in unions
        for kind, member in kinds_of(union).items()
    )


def _suites() -> Iterable[str]:
    from pocketclip.evaluate.suites import read_suite, suite_names

    for name in suite_names():
        suite = read_suite(name)
        measured = [one.name for one in suite.sets if not one.unmeasured]
        yield f"{name:16} {len(measured)} of {len(suite.sets)} sets are measured: {', '.join(measured)}"


def _tasks() -> Iterable[str]:
    from pocketclip.evaluate.tasks import task_kinds

    return (f"{name:16} {(task.__doc__ or '').splitlines()[0]}" for name, task in task_kinds().items())


def _towers() -> Iterable[str]:
    from pocketclip.config import kinds_of
    from pocketclip.models.image import ImageEncoderConfig
    from pocketclip.models.origin.packages import IMAGE_PACKAGES, TEXT_PACKAGES
    from pocketclip.models.text import TextEncoderConfig

    for part, union in (("image", ImageEncoderConfig), ("text", TextEncoderConfig)):
        for kind, config in kinds_of(union).items():
            yield f"{part:6} {kind:24} {(config.__doc__ or '').splitlines()[0]}"
    for part, packages in (("image", IMAGE_PACKAGES), ("text", TEXT_PACKAGES)):
        for name, weights in packages.items():
            yield f"{part:6} {name:24} pretrained: package ({weights.package})"
    yield "image  any timm model           pretrained: hub, none or a weights file"
    yield "text   any Hugging Face encoder pretrained: hub, none or a folder"


LISTS = {
    each.__name__[1:]: each
    for each in (_hardware, _losses, _recipes, _sizes, _sources, _studies, _suites, _tasks, _towers)
}


def list_command(what: Annotated[str, typer.Argument(metavar="WHAT", help=f"One of: {', '.join(LISTS)}.")]) -> None:
    """List what a recipe or a command can name.

    \b
    Example:
      pocketclip list recipes
    """
    from pocketclip.errors import unknown_choice

    if what not in LISTS:
        raise unknown_choice("list", what, LISTS)
    for line in LISTS[what]():
        typer.echo(line)
