"""Recipes and studies by the names they are shipped under: found and listed without reading one."""

from pathlib import Path

from pocketclip.errors import UserError, unknown_choice
from pocketclip.files import shipped

STUDY_SUFFIX = ".study.yaml"
"""Of the files of `pocketclip study`, which lie among the recipes they compare."""


def list_recipes() -> list[str]:
    """Names as `pocketclip train` takes them, such as `flickr/flickr8k_heads_cpu`."""
    root = shipped("recipes")
    files = [path for path in root.rglob("*.yaml") if not path.name.endswith(STUDY_SUFFIX)]
    return sorted(str(path.relative_to(root).with_suffix("")) for path in files)


def find_recipe(name: str) -> Path:
    """A recipe file from its path, its run folder or its name."""
    of_that_name = shipped("recipes") / f"{name.removesuffix('.yaml').removeprefix('recipes/')}.yaml"
    for path in (Path(name), Path(name) / "recipe.yaml", of_that_name):
        if path.is_file():
            return path
    if name in list_studies():
        raise UserError(f"{name}: is a study, not one recipe; use: pocketclip study {name}")
    raise unknown_choice("recipe", name, list_recipes())


def list_studies() -> list[str]:
    """Names as `pocketclip study` takes them."""
    root = shipped("recipes")
    return sorted(str(path.relative_to(root)).removesuffix(STUDY_SUFFIX) for path in root.rglob(f"*{STUDY_SUFFIX}"))


def find_study(name: str) -> Path:
    """A study file from its path or its name; a UserError where there is none."""
    if (path := Path(name)).is_file():
        return path
    plain = name.removesuffix(".yaml").removesuffix(".study").removeprefix("recipes/")
    path = shipped("recipes") / f"{plain}{STUDY_SUFFIX}"
    if path.is_file():
        return path
    raise unknown_choice("study", name, list_studies())
