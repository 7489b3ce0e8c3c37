"""Typed settings: strictness, messages, fingerprints."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from pocketclip.config import Config, apply_change, digest, kinds_of, with_registered
from pocketclip.errors import UserError


class Inner(Config):
    size: int = Field(default=3, ge=1)


class Outer(Config):
    name: str
    inner: Inner = Inner()
    sizes: list[int] = []

    @field_validator("name")
    @classmethod
    def no_blanks(cls, value: str) -> str:
        if " " in value:
            raise ValueError("should hold no blanks")
        return value


def problems(values: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        Outer.parse(values, place="a.yaml")
    return str(caught.value).splitlines()


def test_every_problem_is_reported_at_once_with_key_and_value() -> None:
    lines = problems({"inner": {"size": 0}, "sizes": [1, "two"], "nmae": "x"})
    assert lines == [
        "a.yaml: name: is required",
        "a.yaml: inner.size: Input should be greater than or equal to 1 (got 0)",
        "a.yaml: sizes.1: Input should be a valid integer, unable to parse string as an integer (got 'two')",
        "a.yaml: nmae: unknown key 'nmae'. Did you mean 'name'? Known: inner, name, sizes. (got 'x')",
    ]


def test_a_validators_own_words_are_the_reason() -> None:
    assert problems({"name": "a b"}) == ["a.yaml: name: should hold no blanks (got 'a b')"]


def test_a_long_value_is_cut() -> None:
    (line,) = problems({"name": "x", "sizes": ["9" * 5000 + "x"]})
    assert len(line) < 250


@pytest.mark.parametrize("values", [None, 3, "text", []])
def test_something_that_is_no_mapping_is_an_error(values: object) -> None:
    (line,) = problems(values)
    assert line.startswith("a.yaml: (whole): ")


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError):
        Outer(name="x", colour="red")  # type: ignore[call-arg]


def test_values_cannot_change_after_loading() -> None:
    config = Outer(name="x")
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "y"  # type: ignore[misc]


def test_a_fingerprint_changes_with_any_value() -> None:
    configs = [Outer(name="x"), Outer(name="y"), Outer(name="x", inner=Inner(size=4)), Outer(name="x", sizes=[1])]
    assert len({config.fingerprint() for config in configs}) == len(configs)
    assert Outer(name="x").fingerprint() == Outer.parse({"name": "x"}, place="a.yaml").fingerprint()


def test_the_order_of_keys_does_not_change_a_digest() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest([2, 3]) != digest([3, 2])


def test_a_digest_is_the_same_in_every_process() -> None:
    values = "{'path': __import__('pathlib').Path('a/b'), 'text': 'Zoë', 'number': 0.1, 'on': True, 'none': None}"
    code = f"from pocketclip.config import digest; print(digest({values}))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, check=True
        ).stdout.decode()
        for seed in ("1", "2")
    ]
    here = digest({"path": Path("a/b"), "text": "Zoë", "number": 0.1, "on": True, "none": None})
    assert runs == [here + "\n"] * 2
    assert len(here) == 16


def test_a_change_makes_the_keys_above_it_and_reads_its_value_as_yaml() -> None:
    values: dict[str, object] = {"model": "pocket_s"}
    for change in ("a.b=[1, 2]", "a.c=webdataset:x", "model.embed_dim=8", "d="):
        apply_change(values, change)
    expected = {"a": {"b": [1, 2], "c": "webdataset:x"}, "model": {"size": "pocket_s", "embed_dim": 8}, "d": None}
    assert values == expected


STAGES = [{"name": "low"}, {"name": "middle"}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("num_epochs", "--set num_epochs: should be KEY=VALUE, such as num_epochs=10."),
        ("a=[", "the value is not valid YAML"),
        ("a.b=1", "'a' is the value 3, which has no keys below it"),
        ("stages.high.size=2", "stages is a list; name one of low, middle behind it"),
        ("stages.low=2", "stages is a list; name one of low, middle behind it"),
        ("numbers.b.c=2", "'numbers' is the value"),
    ],
)
def test_a_change_that_does_not_fit_is_an_error(change: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        apply_change({"a": 3, "stages": STAGES, "numbers": [1]}, change, example="num_epochs=10")


def test_a_member_of_a_list_is_changed_by_its_name() -> None:
    values = {"stages": [dict(one) for one in STAGES]}
    for change in ("stages.middle.size=2", "stages.low.budget.macs=1e9"):
        apply_change(values, change)
    assert values == {"stages": [{"name": "low", "budget": {"macs": "1e9"}}, {"name": "middle", "size": 2}]}


class Apple(Config):
    kind: Literal["apple"] = "apple"


class Pear(Config):
    kind: Literal["pear"] = "pear"


class Basket(Config):
    kind: str


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    def register(name: str) -> None:
        point = EntryPoint("mine", f"{__name__}:{name}", "fruits")
        monkeypatch.setattr(EntryPoint, "load", lambda point: globals()[point.value.partition(":")[2]])
        monkeypatch.setattr("pocketclip.config.entry_points", lambda *, group: [point] if group == "fruits" else [])

    return register


def test_a_registered_config_joins_the_union(registered: Any) -> None:
    registered("Pear")
    assert list(kinds_of(with_registered(Apple, "fruits"))) == ["apple", "pear"]
    union = with_registered(Annotated[Apple, Field(description="a fruit")], "fruits")
    assert list(kinds_of(union)) == ["apple", "pear"]
    assert union.__metadata__[0].description == "a fruit"
    assert with_registered(Apple, "vegetables") is Apple


@pytest.mark.parametrize(("name", "given"), [("Apple", "apple"), ("Basket", "Basket"), ("Missing", "cannot be loaded")])
def test_a_registered_config_has_a_kind_of_its_own(name: str, given: str, registered: Any) -> None:
    registered(name)
    with pytest.raises(UserError, match=f"entry point 'mine' of fruits.*{given}"):
        with_registered(Apple, "fruits")


@pytest.mark.parametrize("place", ["folder:caf\udce9", "folder:a\x1b[31m"])
def test_a_name_that_yaml_has_no_characters_for_is_taken_as_it_is(place: str) -> None:
    values: dict[str, Any] = {}
    apply_change(values, f"data.train={place}")
    assert values == {"data": {"train": place}}
