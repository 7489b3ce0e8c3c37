"""Commands on a model of another library."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teachers as tiny
from pocketclip.asked import open_model
from pocketclip.asked.transformers import HuggingFaceModelConfig
from pocketclip.data import open_source

Run = Callable[..., Any]


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny CLIP, named from the current folder."""
    tiny.write_huggingface_teacher(tmp_path / "models" / "clip")
    monkeypatch.chdir(tmp_path)
    return "hf:models/clip"


@pytest.fixture(params=["hf:models/clip", "st:models/clip", "open_clip:local-dir:models/open_clip"])
def model(request: pytest.FixtureRequest, clip: str) -> str:
    """A tiny model of each library that reads sentences too."""
    if request.param.startswith("st:"):
        pytest.importorskip("sentence_transformers")
    if request.param.startswith("open_clip:"):
        pytest.importorskip("open_clip")
        tiny.write_open_clip_folder(Path("models/open_clip"))
    name: str = request.param
    return name


def test_evaluate_ranks_its_embeddings(model: str, pocketclip: Run, make_folder: Callable[..., Path]) -> None:
    ended = pocketclip("evaluate", model, "--data", f"folder:{make_folder(6, 2)}", "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    (line,) = ended.out.splitlines()
    assert (json.loads(line)["num_images"], json.loads(line)["num_captions"]) == (6, 12)
    assert json.loads(line)["text_to_image_recall@10"]["value"] == 1


def test_evaluate_loads_a_model_once(
    clip: str, pocketclip: Run, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketclip.models.running.precision.has_fast_bfloat16", lambda: True)
    build, precisions = HuggingFaceModelConfig.build, []

    def counted(*arguments: Any, **options: Any) -> Any:
        precisions.append((model := build(*arguments, **options)).precision)
        return model

    monkeypatch.setattr(HuggingFaceModelConfig, "build", counted)
    assert pocketclip("evaluate", clip, "--data", f"folder:{make_folder(3, 1)}", "--device", "cpu").code == 0
    assert precisions == ["float32"]


def test_embed_writes_its_embeddings(clip: str, pocketclip: Run, make_folder: Callable[..., Path]) -> None:
    folder = make_folder(4, 1)
    assert pocketclip("embed", folder, "--model", clip, "--out", "out", "--device", "cpu").code == 0
    assert pocketclip("embed", folder, "--model", clip, "--out", "out", "--device", "cpu", "--resume").code == 0
    source, model = open_source(f"folder:{folder}"), open_model(clip, device="cpu")
    captions = [source[number].captions[0] for number in range(4)]
    np.testing.assert_allclose(np.load("out/texts.npy"), model.encode_text(captions), atol=0.01)
    made_from = json.loads(Path("out/manifest.json").read_text())["made_from"]
    assert made_from["model"] == model.made_from()["model"]


def test_an_index_is_searched_with_the_model_that_made_it(
    model: str, pocketclip: Run, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lasting = make_folder(5, 1), model.replace("models/", f"{Path('models').absolute()}/")
    assert pocketclip("index", folder, "--model", model, "--out", "index", "--device", "cpu").code == 0
    assert json.loads(Path("index/index.json").read_text())["model"] == lasting
    index = Path("index").absolute()
    monkeypatch.chdir(folder)
    ended = pocketclip("search", "picture 3 caption 0", "--index", index, "-n", "5", "--json")
    assert ended.code == 0, ended.err
    scores = [json.loads(line)["score"] for line in ended.out.splitlines()]
    query = open_model(lasting, device="cpu").encode_text("picture 3 caption 0")[0]
    expected = np.load(index / "embeddings.npy") @ query
    assert scores == pytest.approx(sorted(expected, reverse=True), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["clip", "timm"])
def test_cost_weighs_what_can_be_weighed(what: str, clip: str, pocketclip: Run) -> None:
    name = clip if what == "clip" else "timm:test_vit/none"
    ended = pocketclip("cost", name, "--seconds", "0.01", "--device", "cpu", "--hourly-dollars", "1", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    parts = ("image", "text") if what == "clip" else ("image",)
    for part in parts:
        assert min(found[f"{key}_{part}"] for key in ("parameters", "macs", "latency_ms_p50")) > 0
        assert found[f"dollars_per_million_{part}s"] >= 0
    assert ("latency_ms_p50_text" in found) == (what == "clip")
    assert found["name"] == name


@pytest.mark.slow
def test_a_page_shows_what_it_finds(model: str, pocketclip: Run, make_folder: Callable[..., Path]) -> None:
    ended = pocketclip("demo", "retrieval", model, "--data", f"folder:{make_folder(6, 1)}", "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert model in Path("demo.html").read_text()


@pytest.mark.slow
def test_filter_compares_by_it(model: str, pocketclip: Run, make_folder: Callable[..., Path]) -> None:
    rule = ("--keep-share", "0.5", "--model", model, "--device", "cpu")
    ended = pocketclip("data", "filter", f"folder:{make_folder(6, 1)}", "--out", "kept", *rule, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["num_kept_captions"] == 3


def test_probes_of_towers_say_what_they_take(clip: str, pocketclip: Run, make_folder: Callable[..., Path]) -> None:
    ended = pocketclip("evaluate", clip, "--task", "fine_tuning", "--data", f"folder:{make_folder(4)}")
    assert ended.code == 1
    assert "--task fine_tuning looks inside the towers of our own models" in ended.err
