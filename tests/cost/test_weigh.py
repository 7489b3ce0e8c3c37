"""All costs of a model in one record."""

from pathlib import Path

import pytest

from conftest import build_tiny_pretrained
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost import latency
from pocketclip.cost.flops import tower_macs
from pocketclip.cost.parameters import parameters_by_part
from pocketclip.cost.weigh import measure_cost
from pocketclip.hardware import available_cores
from pocketclip.records import CostResult, read_records, write_record


@pytest.fixture(scope="module")
def model() -> PretrainedModel:
    return build_tiny_pretrained()


@pytest.fixture(scope="module")
def bundle(model: PretrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save_pretrained(tmp_path_factory.mktemp("weigh") / "bundle")


@pytest.fixture(scope="module")
def cost(model: PretrainedModel, bundle: Path) -> CostResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "WARM_UP_SECONDS", 0.0)
        patch.setattr(latency, "MIN_RUNS", 3)
        return measure_cost(
            model.model, name="tiny", image_size=32, context_length=12,
            device="cpu", precision="float32", seconds=0.0, bundle=bundle,
        )  # fmt: skip


def test_parameters_and_macs_are_those_of_their_own_functions(cost: CostResult, model: PretrainedModel) -> None:
    expected = parameters_by_part(model.model)
    expected.update(tower_macs(model.model, image_size=32, context_length=12))
    assert {name: cost.metrics[name] for name in expected} == expected


def test_latency_memory_and_conditions_are_there(cost: CostResult) -> None:
    for name in ("latency_ms_p50", "throughput_image_per_second", "peak_memory_mib", "bundle_mib"):
        assert float(cost.metrics[name] or 0) > 0
    assert (cost.metrics["context_length"], cost.metrics["precision"]) == (12, "float32")


def test_latency_texts_are_no_longer_than_the_context(cost: CostResult) -> None:
    assert cost.metrics["num_tokens"] == 12
    assert any("12 tokens" in note for note in cost.notes)


def test_the_bundle_weighs_what_its_files_weigh(cost: CostResult, bundle: Path) -> None:
    size = sum(path.stat().st_size for path in bundle.iterdir())
    assert cost.metrics["bundle_mib"] == pytest.approx(size / 2**20, abs=0.01)


def test_the_record_can_be_written_and_read(cost: CostResult, tmp_path: Path) -> None:
    write_record(cost, tmp_path, "cost")
    assert read_records(tmp_path) == [cost]


def test_the_load_of_other_work_stands_beside_the_timings(cost: CostResult) -> None:
    assert cost.provenance.other_load is None or 0 <= cost.provenance.other_load <= (cost.provenance.num_cores or 0)
    assert cost.provenance.num_cores == available_cores()
