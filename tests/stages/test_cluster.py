"""Blocks by Ray: the bits of the local engine, whatever happens to the workers. One Ray of two CPUs for all tests."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import pocketclip.stages.cluster as cluster
from conftest import Told, build_tiny_pretrained, tiny_recipe_settings
from pocketclip.curate.curation import carry_out
from pocketclip.curate.filter import FilterConfig, filtering
from pocketclip.errors import UserError
from pocketclip.features.cache import cache_folder
from pocketclip.recipe import Recipe
from pocketclip.run.embedding import open_embedding, open_similarity, write_embeddings
from pocketclip.run.features import fill_cache
from pocketclip.stages.cluster import open_engine
from pocketclip.stages.engine import Engine, compute_here, fill
from pocketclip.stages.store import Block, Stage
from pocketclip.stages.watch import SILENT

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra 'cluster'")


def test_an_address_without_ray_is_refused() -> None:
    with (
        pytest.raises(UserError, match=r"--ray-address has no effect .* \(got 'head:6379'\)"),
        open_engine("local", "head:6379"),
    ):
        pass


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'pocketclip\[cluster\]'"), open_engine("ray"):
        pass


# With a Ray of our own


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    os.environ.update(cluster.QUIET)  # Ray reads them when it is imported
    pickle = pytest.importorskip("ray.cloudpickle")
    pickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    with mock.patch.object(cluster, "available_cores", return_value=2), mock.patch.dict(os.environ):
        os.environ.pop("RAY_ADDRESS", None)
        with cluster._connected(None):
            yield


@pytest.fixture
def on_ray(started: None) -> Iterator[Engine]:
    with open_engine("ray") as engine:
        yield engine


def open_stage(place: Path, deaths: dict[int, int], *, process: int = 0, num_samples: int = 10) -> Stage:
    """Two samples a block; block n ends its worker `deaths[n]` times, having noted the attempt in `place`."""

    def compute(start: int, stop: int) -> Block:
        number = start // 2
        attempts = place / f"attempts-{number}"
        with attempts.open("a") as file:
            file.write("x")
        if attempts.stat().st_size <= deaths.get(number, 0):
            os._exit(1)
        if number == deaths.get(-1):
            raise UserError(f"block {number} cannot be read")
        return Block(
            {"threads": np.full(stop - start, int(os.environ.get("OMP_NUM_THREADS", "0")))}, [f"sample {start}"]
        )

    # A worker that would make something else is found out by this
    seen = {"process": os.getpid() if process else 0}
    return Stage("counting", seen, num_samples, 2, compute)


@pytest.mark.slow
@needs_ray
def test_a_killed_workers_block_is_done_again(on_ray: Engine, tmp_path: Path) -> None:
    told: list[str] = []
    opening = partial(open_stage, tmp_path, {1: 1, 3: 2})
    progress = Told(lambda work, done, total, broken: told.extend([*broken, f"{done} of {total}"]))
    folder = fill(tmp_path / "blocks", opening(), opening, on_ray, progress, resume=False)
    attempts = {number: (tmp_path / f"attempts-{number}").stat().st_size for number in range(5)}
    assert (attempts[1], attempts[3]) == (2, 3)
    assert folder.column("threads").tolist() == [1] * 10
    assert sorted(name for name in told if "sample" in name) == [f"sample {start}" for start in range(0, 10, 2)]
    assert told[-1] == "10 of 10"
    assert sorted(path.suffix for path in folder.path.iterdir()) == [".json", *[".npz"] * 5]


@pytest.mark.slow
@needs_ray
def test_a_block_that_always_kills_its_worker_stops_the_run(on_ray: Engine, tmp_path: Path) -> None:
    opening = partial(open_stage, tmp_path, {2: 99})
    with pytest.raises(UserError, match=r"Block 2 \(samples 4 to 5\) ended 3 worker processes"):
        fill(tmp_path / "blocks", opening(), opening, on_ray, SILENT, resume=False)
    healed = partial(open_stage, tmp_path, {})
    fill(tmp_path / "blocks", healed(), healed, compute_here, SILENT, resume=True)


@pytest.mark.slow
@needs_ray
def test_errors_of_workers_reach_the_user(on_ray: Engine, tmp_path: Path) -> None:
    opening = partial(open_stage, tmp_path, {-1: 1}, num_samples=4)
    with pytest.raises(UserError, match=r"^block 1 cannot be read$"):
        fill(tmp_path / "one", opening(), opening, on_ray, SILENT, resume=False)
    other = partial(open_stage, tmp_path, {}, process=1, num_samples=4)
    with pytest.raises(UserError, match=r"would compute something else: made_from\.process is \d+ there and \d+ here"):
        fill(tmp_path / "two", other(), other, on_ray, SILENT, resume=False)


@pytest.mark.slow
@needs_ray
def test_a_single_block_is_not_worth_a_worker(on_ray: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    opening = partial(open_stage, tmp_path, {}, process=1, num_samples=2)
    folder = fill(tmp_path / "blocks", opening(), opening, on_ray, SILENT, resume=False)
    assert folder.column("threads").tolist() == [7, 7]


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return str(build_tiny_pretrained().save_pretrained(tmp_path / "bundle", card=""))


@pytest.fixture
def many_threads() -> Iterator[None]:
    """This process computes with more threads than a worker has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def same_files(first: Path, second: Path) -> list[str]:
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(second)) for path in second.rglob("*") if path.is_file())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    return names


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("many_threads")
def test_embeddings_are_the_local_ones_bit_for_bit(
    on_ray: Engine, bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    opening = partial(open_embedding, "scenes:1100,image_size=32", bundle, "cpu")
    stage = opening()
    for name, engine in (("local", compute_here), ("ray", on_ray)):
        assert write_embeddings(stage, opening, tmp_path / name, engine, SILENT, resume=False) == (1100, 2200)
    assert "images.npy" in same_files(tmp_path / "local", tmp_path / "ray")
    assert capfd.readouterr().out == ""


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("many_threads")
def test_filtered_shards_are_the_local_ones_to_the_byte(on_ray: Engine, bundle: str, tmp_path: Path) -> None:
    source = "scenes:600,image_size=32"
    opening = partial(open_similarity, source, bundle, "cpu")
    rules = FilterConfig(keep_share=0.3, min_caption_words=3)
    for name, engine in (("local", compute_here), ("ray", on_ray)):
        curation = filtering(opening(), opening, source, rules, tmp_path / name)
        carry_out(curation, engine, SILENT, samples_per_shard=50)
    assert len(same_files(tmp_path / "local", tmp_path / "ray")) > 3


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("many_threads")
def test_the_feature_cache_is_the_local_one_to_the_byte(
    on_ray: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_recipe_settings(cache={"views": ["centre", "crop"]})
    settings["data"]["train"]["count"] = 600  # type: ignore[index]
    recipe = Recipe.parse(settings, place="recipe")
    folders = []
    for name, engine in (("local", compute_here), ("ray", on_ray)):
        monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path / name))
        fill_cache(recipe, engine, SILENT)
        folders.append(cache_folder())
    assert len(same_files(*folders)) == 2 * (4 + 4)


@pytest.mark.slow
@needs_ray
def test_no_cluster_at_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = mock.Mock(is_initialized=lambda: False, init=mock.Mock(side_effect=ConnectionError("nobody answers\nat all")))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray)
    with pytest.raises(UserError, match=r"No Ray cluster at 'head:1' \(nobody answers\)"), open_engine("ray", "head:1"):
        pass
