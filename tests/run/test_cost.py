"""What a user may ask the cost of: a bundle, a run, a recipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from conftest import build_tiny_pretrained
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost import energy, latency
from pocketclip.cost.parameters import parameters_by_part
from pocketclip.errors import UserError, pip_install
from pocketclip.records import CostResult
from pocketclip.run.cost import cost_of


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(latency, "MIN_RUNS", 2)


def cost(place: Path | str, **options: Any) -> CostResult:
    return cost_of(str(place), device="cpu", precision="float32", seconds=0.0, **options)


@pytest.fixture(scope="module")
def model() -> PretrainedModel:
    return build_tiny_pretrained()


@pytest.fixture
def run(model: PretrainedModel, tmp_path: Path) -> Path:
    """A run folder with a bundle."""
    model.save_pretrained(tmp_path / "run" / "bundle")
    return tmp_path / "run"


def test_a_bundle_costs_what_its_model_does(run: Path, model: PretrainedModel) -> None:
    found = cost(run / "bundle").metrics
    expected = parameters_by_part(model.model)
    assert {name: found[name] for name in expected} == expected
    assert (found["image_size"], found["context_length"], found["num_tokens"]) == (32, 16, 16)
    size = sum(path.stat().st_size for path in (run / "bundle").iterdir())
    assert found["bundle_mib"] == pytest.approx(size / 2**20, abs=0.01)


def test_a_run_stands_for_its_bundle(run: Path) -> None:
    whole, bundle = cost(run), cost(run / "bundle")
    assert whole.name == str(run)
    for name in ("parameters_total", "macs_image", "macs_text", "bundle_mib"):
        assert whole.metrics[name] == bundle.metrics[name]


def test_a_recipe_is_weighed_before_it_is_trained(
    tiny_recipe_file: Callable[..., Path], model: PretrainedModel
) -> None:
    found = cost(tiny_recipe_file())
    expected = parameters_by_part(model.model)
    assert found.name == "tiny"
    assert found.metrics["parameters_image"] == expected["parameters_image"]
    assert found.metrics["parameters_heads"] == expected["parameters_heads"]
    assert found.metrics["macs_image"] == cost(tiny_recipe_file(num_steps=9)).metrics["macs_image"]
    assert "bundle_mib" not in found.metrics


def test_a_recipe_counts_the_vocabulary_it_will_learn(tiny_recipe_file: Callable[..., Path]) -> None:
    table = 300 * 32  # of words; positions and token types come on top
    others = (128 + 2) * 32
    assert cost(tiny_recipe_file()).metrics["parameters_text_embeddings"] == table + others


@pytest.fixture
def shipped(tiny_recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a small recipe among the shipped ones."""
    (tmp_path / "shipped" / "quick").mkdir(parents=True)
    tiny_recipe_file().rename(tmp_path / "shipped" / "quick" / "tiny.yaml")
    monkeypatch.setattr("pocketclip.shipped_recipes.shipped", lambda name: tmp_path / "shipped")
    return "quick/tiny"


def test_a_shipped_recipes_name_is_understood(shipped: str) -> None:
    assert cost(shipped).metrics["image_size"] == 32


def test_a_shipped_recipes_name_is_not_asked_from_the_hub(shipped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append(name)
        raise ConnectionError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    cost(shipped)
    assert asked == []


def test_a_price_per_hour_becomes_a_price_of_a_million(run: Path) -> None:
    metrics = cost(run, dollars_per_hour=0.36).metrics
    for part in ("image", "text"):
        per_second = float(metrics[f"throughput_{part}_per_second"] or 0)
        expected = 1e6 / per_second / 3600 * 0.36
        assert metrics[f"dollars_per_million_{part}s"] == pytest.approx(expected, abs=1e-4)
    assert metrics["dollars_per_hour"] == 0.36
    assert not [name for name in cost(run).metrics if name.startswith("dollars")]


@pytest.mark.parametrize("installed", [False, True])
def test_energy_is_measured_where_it_can_be_and_named_where_not(
    installed: bool, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def measure(wanted: bool) -> Iterator[energy.Energy]:
        yield energy.Energy(0.0125, "a meter") if wanted and installed else energy.Energy()

    monkeypatch.setattr("pocketclip.run.cost.measure_energy", measure)
    found = cost(run, with_energy=True)
    assert found.metrics["energy_kwh"] == (0.0125 if installed else None)
    method = "a meter" if installed else f"not measured ({pip_install('[energy]')})"
    assert found.notes[-1] == f"energy of these measurements: {method}"
    assert "energy_kwh" not in cost(run).metrics


def test_a_damaged_bundle_is_named_and_not_taken_for_a_recipe(run: Path) -> None:
    (run / "bundle" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"model\.safetensors: cannot read weights"):
        cost(run)


def test_a_run_that_has_not_finished_is_weighed_by_its_recipe(
    tiny_recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    tiny_recipe_file().rename(tmp_path / "run" / "recipe.yaml")
    assert cost(tmp_path / "run").metrics["image_size"] == 32


@pytest.mark.parametrize("place", ["/no/such", "runs/nine"])
def test_a_place_where_nothing_is_names_all_that_may_stand_there(place: str) -> None:
    with pytest.raises(UserError, match="bundle"):
        cost(place)


def test_a_misspelt_recipe_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"Did you mean 'quickstart/openmoji'\?"):
        cost("quickstart/openmojy")
