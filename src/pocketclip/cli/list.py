"""`pocketclip list`."""

from pathlib import Path
from typing import Annotated

import typer

KINDS = ("hardware", "losses", "recipes", "sizes", "sources", "studies", "tasks", "towers")


def list_command(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=f"One of: {', '.join(KINDS)}.")],
) -> None:
    """List what a recipe or a command can name.

    \b
    Example:
      pocketclip list recipes
    """
    from pocketclip.errors import unknown_choice

    if what not in KINDS:
        raise unknown_choice("list", what, KINDS)
    for line in globals()[f"_{what}"]():
        typer.echo(line)


def _recipes() -> list[str]:
    from pocketclip.recipe import find_recipe, list_recipes

    return [_with_first_line(name, find_recipe(name)) for name in list_recipes()]


def _hardware() -> list[str]:
    from pocketclip.cost.plan import hardware_table

    lines = []
    for name, machine in hardware_table().items():
        price = "" if machine.dollars_per_hour is None else f"${machine.dollars_per_hour:.2f} an hour: "
        source = f"{price}{machine.price_source}" + (f", {machine.price_date}" if machine.price_date else "")
        lines.append(f"{name:14} {machine.description}; {source}")
    return lines


def _studies() -> list[str]:
    from pocketclip.study.grid import find_study, list_studies

    return [_with_first_line(name, find_study(name)) for name in list_studies()]


def _with_first_line(name: str, file: Path) -> str:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    return f"{name:48} {first.removeprefix('# ')}"


def _sizes() -> list[str]:
    import torch

    from pocketclip.cost.parameters import count_parameters, parameters_by_part
    from pocketclip.models.build import build_model
    from pocketclip.models.config import DualEncoderConfig
    from pocketclip.models.sizes import list_sizes

    lines = ["millions of parameters, each tower with its head"]
    for name in list_sizes():
        config = DualEncoderConfig.parse(name, place=name)
        with torch.device("meta"):  # shapes are enough to count
            model = build_model(config, load_pretrained=False)
        image = count_parameters(model.image_encoder) + count_parameters(model.image_head)
        text = count_parameters(model.text_encoder) + count_parameters(model.text_head)
        counts = parameters_by_part(model)
        shared = f"   shared {counts['parameters_shared'] / 1e6:4.1f}" if "parameters_shared" in counts else ""
        lines.append(
            f"{name:30} image {image / 1e6:6.1f} at {config.image_encoder.image_size} px   text {text / 1e6:6.1f}, "
            f"{counts['parameters_text_embeddings'] / 1e6:4.1f} of them word embeddings{shared}"
        )
    return lines


def _sources() -> list[str]:
    from pocketclip.data import source_kinds

    lines = []
    for kind, config in sorted(source_kinds().items()):
        places = ",".join(place.upper() for place in config.positional)
        others = [name for name in config.model_fields if name not in ("kind", *config.positional)]
        settings = f"  settings: {', '.join(others)}" if others else ""
        lines.append(f"{kind}:{places}".ljust(36) + settings)
    return lines


def _losses() -> list[str]:
    from pocketclip.config import kinds_of
    from pocketclip.losses import LossConfig
    from pocketclip.objectives import ObjectiveConfig
    from pocketclip.objectives.distillation import TermConfig

    unions = ((LossConfig, ""), (TermConfig, " (objective distillation)"), (ObjectiveConfig, " (an objective)"))
    return [
        f"{kind:16} {(member.__doc__ or '').splitlines()[0]}{where}"
        for union, where in unions
        for kind, member in kinds_of(union).items()
    ]


def _tasks() -> list[str]:
    from pocketclip.evaluate.tasks import task_kinds

    return [f"{name:16} {(task.__doc__ or '').splitlines()[0]}" for name, task in task_kinds().items()]


def _towers() -> list[str]:
    from pocketclip.models.config import families
    from pocketclip.models.image import ImageEncoderConfig
    from pocketclip.models.origin.weights import IMAGE_PACKAGES, TEXT_PACKAGES
    from pocketclip.models.text import TextEncoderConfig

    lines = [
        f"{part:6} {config.model_fields['kind'].default:24} {config.__doc__.splitlines()[0]}"
        for part, union in (("image", ImageEncoderConfig), ("text", TextEncoderConfig))
        for config in families(union)
    ]
    lines += [f"image  {name:24} pretrained: package ({weights.package})" for name, weights in IMAGE_PACKAGES.items()]
    lines += [f"text   {name:24} pretrained: package ({weights.package})" for name, weights in TEXT_PACKAGES.items()]
    lines.append("image  any timm model           pretrained: hub, none or a weights file")
    lines.append("text   any Hugging Face encoder pretrained: hub, none or a folder")
    return lines
