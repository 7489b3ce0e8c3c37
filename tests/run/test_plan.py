"""What a run will take: from a record, a published run, an estimate, or the user."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import tiny_recipe_settings
from pocketclip.cost.plan import Plan
from pocketclip.errors import UserError
from pocketclip.files import shipped
from pocketclip.hardware import Load, available_cores
from pocketclip.hubs import LogSumExp
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.report.table import plan_rows
from pocketclip.run.measure import measure_throughput
from pocketclip.run.plan import plan_run, samples_seen
from pocketclip.shipped_recipes import list_recipes

HERE = "flickr/flickr8k_heads_cpu"


def recipe(**train: Any) -> Recipe:
    return Recipe.parse(tiny_recipe_settings(**train), place="test")


def plan(hardware: str = "a100", name: str = "mine", made: Recipe | None = None, **options: Any) -> Plan:
    return plan_run(made or recipe(), name, hardware, **options)


def test_samples_are_steps_times_batch_size() -> None:
    assert samples_seen(recipe()) == 16
    assert samples_seen(recipe(num_steps=None, num_epochs=2.5)) == 60
    assert samples_seen(recipe(num_steps=None, num_epochs=1, batch_size=5)) == 20
    assert samples_seen(recipe(num_steps=None, num_epochs=1, epoch="captions")) == 48


def test_a_given_speed_and_price_are_plain_arithmetic() -> None:
    found = plan("this", throughput=2.0, dollars_per_hour=3600.0)
    assert (found.hours, found.dollars, found.samples_seen) == (pytest.approx(8 / 3600), pytest.approx(8.0), 16)
    assert found.storage_bytes.keys() == {"data", "checkpoints", "bundle"}
    assert all(found.storage_bytes.values())
    assert ["time", "8 s"] in plan_rows(found)
    assert ["price at $3600 an hour", "$8.00"] in plan_rows(found)


@pytest.mark.slow
def test_a_bank_is_part_of_the_bundle() -> None:
    made = recipe().model_copy(update={"hubs": LogSumExp(num_captions=10, num_images=5)})
    sizes = [plan("this", made=own).storage_bytes["bundle"] for own in (recipe(), made)]
    assert sizes[1] - sizes[0] == 2 * made.model.embed_dim * 15  # type: ignore[operator]


def test_without_record_or_publication_it_is_an_estimate_with_a_range() -> None:
    found = plan(num_samples=1_000_000, made=recipe(num_steps=None, num_epochs=3))
    assert found.throughput.origin == "estimated"
    assert found.samples_seen == 3_000_000
    assert found.hours_low < found.hours < found.hours_high
    assert any("an estimate" in note for note in found.notes)
    assert "to" in dict(plan_rows(found))["time"]


def test_frozen_towers_cost_a_third_and_a_cache_less() -> None:
    whole = plan(made=recipe(learning_rate={"heads": 0.1, "image_encoder": 0.1, "text_encoder": 0.1}))
    frozen = plan(made=recipe(learning_rate={"heads": 0.1}))
    again = plan(made=recipe(chunk_size=2))
    assert frozen.throughput.value == pytest.approx(3 * whole.throughput.value)
    assert again.throughput.value == pytest.approx(0.75 * whole.throughput.value)
    cached = plan(made=recipe(cache={"views": ["centre"]}, num_steps=600))
    assert cached.throughput.value > 10 * frozen.throughput.value
    assert cached.storage_bytes["feature_cache"]
    with_texts = recipe(
        cache={"views": ["centre"]}, num_steps=600, learning_rate={"heads": 0.1, "text_encoder": 0.1}, num_workers=0
    )
    images_cached = plan(made=with_texts)
    assert frozen.throughput.value < images_cached.throughput.value < cached.throughput.value
    assert images_cached.storage_bytes["checkpoints"] > cached.storage_bytes["checkpoints"] > 0
    assert 0 < images_cached.storage_bytes["feature_cache"] < cached.storage_bytes["feature_cache"]
    assert "feature_cache" not in whole.storage_bytes


def test_half_of_the_bytes_are_shipped_in_half_precision() -> None:
    whole, half = (recipe(), Recipe.parse({**recipe().model_dump(), "bundle_weights": "float16"}, place="half"))
    assert 2 * plan(made=half).storage_bytes["bundle"] == plan(made=whole).storage_bytes["bundle"]


def test_checkpoints_of_every_stage_need_their_place() -> None:
    """After a stage that trains all, one of the heads keeps little; what was kept on the way stays."""
    all_parts = {"learning_rate": {"heads": 0.1, "image_encoder": 0.1, "text_encoder": 0.1}}
    all_trained, heads = recipe(**all_parts), recipe(cache={"views": ["centre"]})
    settings = all_trained.train.model_dump(mode="json", exclude_unset=True)
    early = {**heads.model_dump(), "early_stages": [{**settings, "name": "all"}]}
    staged = Recipe.parse(early, place="staged")
    alone, before, after = (plan(made=made).storage_bytes["checkpoints"] for made in (heads, all_trained, staged))
    assert alone < before == after
    with_kept = plan(made=recipe(**all_parts, keep_steps=(2, 4))).storage_bytes["checkpoints"]
    at_once = all_trained.train.num_checkpoints + 1
    assert at_once * with_kept == (at_once + 2) * before


def test_the_record_answers_for_its_recipe() -> None:
    record = json.loads((shipped("results") / "flickr8k_heads_cpu.json").read_text())
    found = plan("laptop-cpu-2", HERE, load_recipe(HERE), num_samples=6000, dollars_per_hour=1.0)
    assert found.throughput.origin == "measured"
    assert found.hours * 3600 == pytest.approx(record["wall_seconds_median"], rel=0.01)
    assert found.dollars == pytest.approx(found.hours)
    other = plan("laptop-cpu-2", HERE, load_recipe(HERE, ["train.num_epochs=9"]), num_samples=6000,
                 changes=("train.num_epochs=9",))  # fmt: skip
    assert other.throughput.origin == "estimated"  # no record of the changed recipe


def test_published_hours_and_dollars(tmp_path: Path) -> None:
    """The published counts stand in for data that are not here."""
    missing = recipe(num_steps=None, num_epochs=7, batch_size=512)
    missing = Recipe.parse(
        missing.model_dump(mode="json") | {"data": {"train": f"folder:{tmp_path}/none", "val": "scenes:8"}}, place="x"
    )
    check_published(plan("rtx4090x2", "s_smke/pretrain", missing))


def test_the_shipped_recipe_of_pretraining_is_planned_as_published() -> None:
    if "s_smke/pretrain" not in list_recipes():
        pytest.skip("no such recipe yet")
    check_published(plan("rtx4090x2", "s_smke/pretrain", load_recipe("s_smke/pretrain")))


def check_published(found: Plan) -> None:
    assert found.throughput.origin == "published"
    assert found.samples_per_epoch == 3_264_868
    assert found.hours == pytest.approx(11.2, rel=0.1)
    assert found.dollars == pytest.approx(15.5, rel=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hardware": "b200"}, "Unknown hardware 'b200'"),
        ({"hardware": "this", "num_samples": 24}, "give --throughput, or --measure"),
        ({"throughput": 0.0}, "--throughput 0: should be above 0"),
        ({"num_samples": -1}, "--samples -1: should be above 0"),
        ({"num_samples": 3}, "fewer than a batch of 4"),
        ({"dollars_per_hour": -1.0}, "--price -1: should not be below 0"),
        ({"measure": True}, "--measure trains on this machine"),
        ({"hardware": "this", "measure": True, "throughput": 1.0}, "has no effect with --throughput"),
    ],
)
def test_bad_wishes_are_one_clear_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(**{"made": recipe(num_steps=None, num_epochs=1), **options})
    assert said in str(caught.value)


def test_a_few_steps_are_measured() -> None:
    rate = measure_throughput(recipe(), num_steps=5)
    assert rate.origin == "measured"
    assert 0 < rate.low <= rate.value <= rate.high
    assert rate.source.startswith("measured now: 2 steps of 4 on drawn pictures")
    with pytest.raises(UserError, match="trains on cached features"):
        measure_throughput(recipe(cache={"views": ["centre"]}))


def test_a_speed_beside_other_work_is_no_plain_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((shipped("results") / "flickr8k_heads_cpu.json").read_text())
    monkeypatch.setattr("pocketclip.run.speed.shipped", lambda folder: tmp_path)

    def found() -> Plan:
        return plan("laptop-cpu-2", HERE, load_recipe(HERE), num_samples=6000)

    (tmp_path / "busy.json").write_text(json.dumps({**record, "other_load": 1.0, "num_cores": 2}))
    busy = found()
    assert busy.throughput.beside_other_work
    assert busy.throughput.high == pytest.approx(2 * busy.throughput.value)
    assert "while 1.0 of 2 cores were busy with other work" in busy.throughput.source
    assert any("beside other work" in note for note in busy.notes)
    rows = dict(plan_rows(busy))
    assert "samples a second, measured on a busy machine" in rows
    assert "to" in rows["time"]
    (tmp_path / "quiet.json").write_text(json.dumps({**record, "other_load": 0.1, "num_cores": 2}))
    quiet = found()  # the better one of the two
    assert not quiet.throughput.beside_other_work
    assert quiet.throughput.source.startswith("measured: results/quiet.json")
    assert quiet.notes == [note for note in busy.notes if "beside other work" not in note]


def test_measuring_beside_other_work_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Load, "average", lambda self: 0.5 * available_cores())
    rate = measure_throughput(recipe(num_steps=None, num_epochs=3, num_workers=0), num_steps=5)
    assert rate.beside_other_work
    assert "cores were busy with other work" in rate.source
    assert rate.high >= 2 * rate.value
