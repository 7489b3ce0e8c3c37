"""Who may import whom: read from the source, so that a lazy import counts too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pocketclip"
LAYERS = (
    {
        "types",
        "config",
        "errors",
        "files",
        "hardware",
        "head",
        "image_size",
        "hubs",
        "inputs",
        "records",
        "shipped_recipes",
        "sketch",
        "preprocess",
        "rgb",
        "tokenizer",
        "unigram",
        "vocabulary",
        "bundle",
        "embedder",
        "distributed",
    },
    {"stages", "losses", "search"},
    {"data", "models", "objectives"},
    {"asked", "features"},
    {"train", "distill", "curate", "cost"},
    {"evaluate"},
    {"recipe"},
    {"run", "export"},
    {"report"},
    {"study"},
    {"cli", "__main__"},
)
LAYER_OF = {member: number for number, members in enumerate(LAYERS) for member in members}
ORDERED = (("cli", "__main__"),)  # within a layer: the first may be imported by the second


def imports_of(path: Path) -> set[str]:
    """Our own top-level members that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pocketclip."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "pocketclip":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("pocketclip."))
    return found


def member_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or path.stem != "__init__"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down_the_layers(path: Path) -> None:
    member = member_of(path)
    assert member in LAYER_OF, f"{member} is in no layer; say where it belongs"
    for imported in imports_of(path) - {member}:
        assert imported in LAYER_OF, f"{path.name} imports {imported}, which is in no layer"
        below = LAYER_OF[imported] < LAYER_OF[member]
        same_core = LAYER_OF[imported] == LAYER_OF[member] == 0  # files of layer 0 build on each other
        assert below or same_core or (imported, member) in ORDERED, f"{member} may not import {imported}"


def test_layer_zero_has_no_import_cycle() -> None:
    edges = {path.stem: imports_of(path) & LAYERS[0] for path in FILES if member_of(path) in LAYERS[0]}
    assert_no_cycle(edges)


def files_imported(path: Path) -> set[Path]:
    """Our own files that a file imports, anywhere in it; of a package its `__init__.py`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        for name in names:
            place = SOURCE.parent.joinpath(*name.split("."))
            found.update(file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())
    return found


def assert_no_cycle(edges: dict[str, set[str]]) -> None:
    done: set[str] = set()
    while len(done) < len(edges):
        ready = {name for name, needs in edges.items() if name not in done and needs - {name} <= done}
        assert ready, f"a cycle among {sorted(set(edges) - done)}"
        done |= ready


@pytest.mark.parametrize("folder", sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()))
def test_no_folder_has_an_import_cycle(folder: str) -> None:
    files = {path for path in FILES if path.is_relative_to(SOURCE / folder)}
    # A folder's own __init__.py, at the top, only offers its files to others
    files -= {SOURCE / folder / "__init__.py"}
    edges = {path: files_imported(path) & files for path in files}
    assert_no_cycle({str(path): {str(file) for file in needs} for path, needs in edges.items()})


@pytest.mark.parametrize(
    "module",
    ["cli.main", "search", "data", "embedder", "bundle", "preprocess", "tokenizer", "curate.inspect", "study.page"],
)
def test_opens_without_torch(module: str) -> None:
    code = f"import sys, pocketclip.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
