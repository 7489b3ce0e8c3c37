"""Documentation that cannot go stale unnoticed: docstrings, the command reference, links and numbers."""

import ast
import importlib
import inspect
import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

from pocketclip.records import Interval
from pocketclip.report.standing import gather

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pocketclip"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def public_definitions(path: Path) -> list[tuple[str, ast.AST]]:
    """Public functions, classes and methods of a file."""
    found: list[tuple[str, ast.AST]] = []

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                found.append((prefix + node.name, node))
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{node.name}.")

    visit(ast.parse(path.read_text()).body, "")
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) is not None, "the file says not what it holds"
    missing = [name for name, node in public_definitions(path) if ast.get_docstring(node) is None]  # type: ignore[arg-type]
    assert [name for name in missing if not overrides_a_documented_method(path, name)] == []


def overrides_a_documented_method(path: Path, name: str) -> bool:
    """Whether a name such as `Class.method` is explained in a class of this package that its class inherits from."""
    owner, _, method = name.rpartition(".")
    if not owner:
        return False
    bases = getattr(importlib.import_module(module_name(path)), owner).__mro__[1:]
    own = [vars(base)[method] for base in bases if base.__module__.startswith("pocketclip") and method in vars(base)]
    return any(inspect.getdoc(value) for value in own)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_only_an_override_of_a_documented_method_goes_without_a_docstring() -> None:
    bundle = SOURCE / "asked" / "bundle.py"
    assert overrides_a_documented_method(bundle, "PretrainedModel.encode_texts")
    assert not overrides_a_documented_method(bundle, "PretrainedModel.push_to_hub")
    assert not overrides_a_documented_method(bundle, "PretrainedModel.__init__")  # torch's or Python's own do not count
    assert not overrides_a_documented_method(bundle, "PretrainedModel")


def test_the_command_reference_is_what_help_says() -> None:
    from pocketclip.cli.reference import command_reference

    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == command_reference(), "run: uv run python -m pocketclip.cli.reference > docs/cli.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_documents_exist(page: Path) -> None:
    from pocketclip.cli.reference import command_names

    names = command_names()
    for line in re.findall(r"^(?:uv run (?:--extra \S+ )?)?pocketclip (.+)$", page.read_text(), flags=re.MULTILINE):
        words = line.split()
        assert words[0] in names or " ".join(words[:2]) in names or words[0].startswith("-"), line


def test_result_files_say_how_they_were_made() -> None:
    for path in sorted((ROOT / "results").glob("*.json")):
        values = json.loads(path.read_text())
        for key in ("command", "hardware", "date"):
            assert values.get(key), f"{path.name} lacks {key}"


def test_the_readmes_table_is_what_the_results_say() -> None:
    table_of = runpy.run_path(str(ROOT / "benchmarks" / "model_table.py"))["model_table"]
    results = [json.loads(path.read_text()) for path in sorted((ROOT / "results").glob("*.json"))]
    table = table_of([values for values in results if values.get("recipe", "").startswith("flickr/")])
    text = (ROOT / "README.md").read_text()
    written = text.partition("<!-- models -->")[2].partition("<!-- /models -->")[0].strip()
    assert written == table, f"should be:\n{table}"


def test_the_readme_says_what_the_quickstart_scored() -> None:
    values = json.loads((ROOT / "results" / "quickstart.json").read_text())
    score = {key: f"{100 * value:.1f}" for key, value in values["text_to_image_recall@1"].items()}
    words = " ".join((ROOT / "README.md").read_text().split())
    assert f"tested on {values['num_images']} emoji" in words
    assert f"{score['value']} of 100 sentences (95 % interval {score['low']} to {score['high']})" in words
    corrected = 100 * values["corrected_text_to_image_recall@1"]["value"]
    assert f"for {corrected:.1f} with [hubs corrected]" in words
    assert f"by chance for {100 * values['chance_recall@1']:.2f}" in words
    assert "learns in under a minute" in words
    assert values["wall_seconds"] < 60


def test_the_measures_say_what_the_emoji_of_other_styles_scored() -> None:
    values = json.loads((ROOT / "results" / "robustness_emoji.json").read_text())["test"]
    words = " ".join((ROOT / "docs" / "measures.md").read_text().split())
    assert f"{values['num_classes']} of concepts" in words
    assert f"by chance for {100 * values['chance']:.1f}." in words
    for style in ("openmoji", "noto", "twemoji", "fluent"):
        assert Interval(**values[style]["top1_accuracy"]).percent() in words


def test_the_readme_says_what_the_board_of_clothes_is_of() -> None:
    models = gather([ROOT / "results" / "clothing_small"]).models
    assert len(models) == 7
    results = [result for model in models.values() for result in model.evaluations.values()]
    assert {(result.num_images, result.metrics.get("num_classes", 10)) for result in results} == {(372, 10)}
    shots = {name for result in results if result.task == "few_shot" for name in result.metrics if "_shot" in name}
    assert {f"top1_accuracy_{number}_shot" for number in (1, 2, 16)} <= shots
    words = " ".join((ROOT / "README.md").read_text().split())
    for said in ("seven of them on clothing-small, 372 photos of ten kinds", "2 to 16 shots", "by chance 10 of 100"):
        assert said in words


def test_the_citation_names_the_four_works_and_no_version_of_its_own() -> None:
    """The version stands in pyproject.toml alone."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] in (ROOT / "pyproject.toml").read_text()
    assert "version" not in citation
    titles = [work["title"] for work in citation["references"]]
    assert titles == [
        "OpenAI-CLIP",
        "MobileCLIP",
        "Self-Supervised Multimodal Knowledge Extraction",
        "Scaling (Down) CLIP",
    ]
    assert all(work["authors"] for work in citation["references"])


def test_the_changelog_keeps_its_form() -> None:
    headings = re.findall(r"^(#+) (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[:2] == [("#", "Changelog"), ("##", "[Unreleased]")]
    assert {name for level, name in headings if level == "###"} <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
    }  # fmt: skip


def test_the_pages_say_how_much_is_installed() -> None:
    values = json.loads((ROOT / "results" / "install.json").read_text())
    down, unpacked = f"{values['download_gb']:.1f} GB", f"{values['unpacked_gb']:.1f} GB"
    for page in ("README.md", "docs/install.md"):
        words = " ".join((ROOT / page).read_text().split())
        assert down in words
        assert unpacked in words
        assert str(values["download_nvidia_gb"]) in words
    assert f"{values['num_packages']} packages" in (ROOT / "docs" / "install.md").read_text()
