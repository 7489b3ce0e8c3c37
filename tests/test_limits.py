"""Sizes that keep the code readable."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pocketclip"
FILES = sorted(SOURCE.rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
EXCEPTIONS: dict[str, str] = {}  # "file" or "file:function" to the reason
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc"}


def test_files_stop_at_300_lines() -> None:
    long = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in FILES}
    over = {name: lines for name, lines in long.items() if lines > MAX_FILE_LINES and name not in EXCEPTIONS}
    assert over == {}


def test_functions_stop_at_60_lines_without_their_docstring() -> None:
    over = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
                name = f"{path.relative_to(SOURCE)}:{node.name}"
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    first = node.body[0]
                    assert first.end_lineno is not None
                    lines -= first.end_lineno - first.lineno + 1
                if lines > MAX_FUNCTION_LINES and name not in EXCEPTIONS:
                    over[name] = lines
    assert over == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_is_named_for_nothing(path: Path) -> None:
    assert not FORBIDDEN_NAMES & set(path.relative_to(SOURCE).with_suffix("").parts)


def test_a_directory_name_is_not_repeated_in_its_files() -> None:
    repeated = [
        str(path.relative_to(SOURCE))
        for path in FILES
        if path.parent != SOURCE and path.stem.startswith(f"{path.parent.name}_")
    ]
    assert repeated == []
