"""Which backend a tower gets: by the time of the whole job, within the tolerance, remembered."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.features.encode import encode_texts
from pocketclip.models.running import backends
from pocketclip.models.running.backend_memory import Backend, Timing, memory_path
from pocketclip.models.running.backends import Backends, in_chunks, quickest, requested_inference
from pocketclip.models.running.precision import Precision
from pocketclip.models.running.runner import Runner

RATES: dict[Backend, float] = {"eager": 100.0, "compiled": 200.0, "onnx": 150.0}


class Fake(Backends):
    """One linear layer, and rates and set-up times as told; counts what is measured."""

    def __init__(self, rates: Mapping[Backend, float] = RATES, error: float = 0.0) -> None:
        torch.manual_seed(0)
        tower = nn.Linear(8, 4)
        self.fake_rates, self.error, self.measured = rates, error, 0
        super().__init__(tower, lambda _: tower, [(torch.randn(4, 8),)], precision="float32", made_from={"tower": "x"})

    def candidates(self) -> list[Backend]:
        return list(self.fake_rates)

    def rates(self, names: Any, *, rounds: int = 5) -> dict[Backend, float]:
        self.measured += len(names) > 1
        return {name: self.fake_rates[name] for name in names}

    def _timed_set_up(self, name: Backend) -> float:
        return {"eager": 0.0, "compiled": 40.0, "onnx": 5.0}[name]

    def _set_up(self, name: Backend) -> Any:
        if name == "onnx":
            raise RuntimeError("no such operator\nmany lines")

        def call(inputs: Tensor) -> Tensor:
            features: Tensor = self.eager(inputs)
            return features + self.error if name == "compiled" else features

        return call


def test_a_short_job_is_not_measured_at_all() -> None:
    fake = Fake()
    assert fake.choose(backends.FEW_ITEMS - 1) == "eager"
    assert not memory_path().exists()


def test_set_up_counts_so_a_longer_job_gets_a_faster_backend() -> None:
    fake = Fake({"eager": 100.0, "compiled": 200.0})
    assert [fake.choose(count) for count in (2_000, 5_999)] == ["eager", "eager"]
    assert fake.measured == 0
    assert fake.choose(6_000) == "eager"  # measured now: 60 s against 40 + 30
    assert fake.measured == 1
    assert [fake.choose(count) for count in (7_999, 8_000, 8_001, 25_000)] == ["eager", "eager", "compiled", "compiled"]
    assert fake.measured == 1


@pytest.mark.parametrize(("count", "best"), [(100, "eager"), (2_000, "onnx"), (100_000, "compiled")])
def test_the_quickest_is_that_of_the_whole_job(count: int, best: str) -> None:
    measured: dict[Backend, Timing] = {
        "eager": Timing(items_per_second=100),
        "compiled": Timing(items_per_second=400, setup_seconds=40),
        "onnx": Timing(items_per_second=200, setup_seconds=5),
    }
    assert quickest(measured, count) == best
    assert quickest({}, count) == "eager"


def test_another_process_remembers_and_measures_nothing() -> None:
    Fake().choose(50_000)
    later = Fake(dict.fromkeys(RATES, 1.0))
    assert later.choose(50_000) == "compiled"
    assert later.measured == 0


@pytest.mark.parametrize("error", [0.0, 5.0])
def test_features_beyond_the_tolerance_are_refused_and_the_reason_is_kept(error: float) -> None:
    assert Fake(error=error).choose(50_000) == ("eager" if error else "compiled")
    (entry,) = json.loads(memory_path().read_text()).values()
    assert ("cosine" in entry["backends"]["compiled"]["refused"]) == bool(error)
    assert entry["backends"]["onnx"]["refused"] == "could not be set up: no such operator"
    assert entry["made_from"]["tower"] == "x"
    assert {"hardware", "threads", "torch", "device"} <= set(entry["made_from"])


@pytest.mark.parametrize("damage", ["{", "[]", '{"KEY": 3}', '{"KEY": {"backends": {"eager": {"speed": 1}}}}'])
def test_a_damaged_memory_is_measured_again(damage: str) -> None:
    Fake().choose(50_000)
    key = next(iter(json.loads(memory_path().read_text())))
    memory_path().write_text(damage.replace("KEY", key))
    again = Fake()
    assert again.choose(50_000) == "compiled"
    assert again.measured == 1
    assert key in json.loads(memory_path().read_text())


def test_other_towers_stay_remembered() -> None:
    first, second = Fake(), Fake()
    second.made_from = {**second.made_from, "tower": "y"}
    first.choose(50_000)
    second.choose(50_000)
    assert len(json.loads(memory_path().read_text())) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path / "file"))
    assert Fake().choose(50_000) == "compiled"


def test_a_backend_can_be_forced_and_a_wrong_one_names_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POCKETCLIP_INFERENCE", raising=False)
    assert requested_inference("auto") == "auto"
    assert requested_inference("onnx") == "onnx"
    with pytest.raises(
        UserError, match=r"inference: Unknown backend 'compile'.*'compiled'.*auto, compiled, eager, onnx"
    ):
        requested_inference("compile")
    monkeypatch.setenv("POCKETCLIP_INFERENCE", "compiled")
    assert requested_inference("auto") == "compiled"
    assert requested_inference("eager") == "eager"
    monkeypatch.setenv("POCKETCLIP_INFERENCE", "fast")
    with pytest.raises(UserError, match="POCKETCLIP_INFERENCE: Unknown backend 'fast'"):
        requested_inference("auto")


def test_compiling_without_a_compiler_is_no_candidate_and_an_error_when_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.shutil, "which", lambda _: None)
    tower = nn.Linear(8, 4)
    real = Backends(tower, lambda _: tower, [(torch.randn(4, 8),)], precision="float32", made_from={})
    assert "compiled" not in real.candidates()
    with pytest.raises(UserError, match=r"C\+\+ compiler"):
        real.call("compiled")


@pytest.mark.parametrize("count", [1, 4, 9])
def test_chunks_are_of_one_size_and_texts_are_cut_at_their_longest(count: int) -> None:
    random = np.random.default_rng(0)
    lengths = torch.from_numpy(random.integers(1, 7, count))
    mask = torch.arange(7) < lengths[:, None]
    tokens = torch.from_numpy(random.integers(1, 100, (count, 7))) * mask
    shapes = []

    def call(tokens: Tensor, mask: Tensor) -> Tensor:
        shapes.append(tuple(tokens.shape))
        return (tokens * mask).sum(1, keepdim=True)

    assert torch.equal(in_chunks(call, 4)(tokens, mask), tokens.sum(1, keepdim=True))
    assert [rows for rows, _ in shapes] == [4] * -(-count // 4)
    assert shapes[0][1] == max(2, int(lengths[:4].max()))


def runner(model: PretrainedModel, inference: str, precision: Precision = "float32") -> Runner:
    return Runner(model.model, device=torch.device("cpu"), precision=precision, image_size=32, inference=inference)


def test_without_a_plan_or_with_a_short_one_nothing_is_set_up(tiny_pretrained: PretrainedModel) -> None:
    plain = runner(tiny_pretrained, "auto")
    assert plain.backend == {"image": "eager", "text": "eager"}
    plain.plan(num_images=500, num_texts=500)
    assert plain.backend == {"image": "eager", "text": "eager"}
    assert not memory_path().exists()


def check_parity(model: PretrainedModel, inference: str, precision: Precision) -> None:
    """Batches of any size and texts of any length, against eager float32."""
    plain, other = runner(model, "eager"), runner(model, inference, precision)
    random = np.random.default_rng(0)
    for count in (1, 33):
        pixels = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        cosines = (plain.encode_images(pixels) * other.encode_images(pixels)).sum(1)
        assert cosines.min() > 0.999
    captions = [" ".join(["small", "red", "circle", "large"][: 1 + number % 4]) + f" {number}" for number in range(70)]
    expected = encode_texts(captions, plain.encode_tokens, model.tokenizer)
    cosines = (expected * encode_texts(captions, other.encode_tokens, model.tokenizer)).sum(1)
    assert cosines.min() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_towers_agree_with_float32(precision: Precision, tiny_pretrained: PretrainedModel) -> None:
    if "compiled" not in runner(tiny_pretrained, "eager").backends("image").candidates():
        pytest.skip("no C++ compiler")
    check_parity(tiny_pretrained, "compiled", precision)


@pytest.mark.slow
def test_onnx_towers_agree_with_float32(tiny_pretrained: PretrainedModel) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    check_parity(tiny_pretrained, "onnx", "float32")


@pytest.mark.slow
def test_a_long_plan_measures_and_remembers(tiny_pretrained: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "LONG_SECONDS", 0.0)
    first = runner(tiny_pretrained, "auto")
    first.plan(num_images=2_000, num_texts=2_000)
    entries = json.loads(memory_path().read_text()).values()
    assert sorted(entry["made_from"]["part"] for entry in entries) == ["image", "text"]
    for entry in entries:
        measured = entry["backends"]
        assert measured["eager"]["items_per_second"] > 0
        assert not measured.get("compiled", {}).get("refused")
    again = runner(tiny_pretrained, "auto")
    again.plan(num_images=2_000, num_texts=2_000)
    assert again.backend == first.backend
