"""The model card says what a model is, what it scored and how it was made."""

import ast
import re
from typing import Any

import pytest
import yaml

from conftest import build_tiny_pretrained, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.recipe import Recipe
from pocketclip.records import EvalResult, Interval, Provenance, RunRecord
from pocketclip.run.card import model_card

WHERE = Provenance(hardware="2 cores of a toaster", code_version="0.1.0+abc", date="2026-01-02", command="pocketclip")
METRICS: dict[str, Interval | float] = {
    "text_to_image_recall@1": Interval(value=0.186, low=0.1741, high=0.198),
    "text_to_image_recall@5": Interval(value=0.5, low=0.4, high=0.6),
    "text_to_image_recall@10": Interval(value=1, low=1, high=1),
    "text_to_image_median_rank": 12.0,
    "image_to_text_recall@1": 0.25,
    "image_to_text_recall@5": 0.3,
    "image_to_text_recall@10": 0.35,
    "image_to_text_median_rank": 7.5,
}


@pytest.fixture(scope="module")
def tiny() -> PretrainedModel:
    return build_tiny_pretrained()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.parse(tiny_recipe_settings(), place="test")


def result(split: str, images: int = 1000) -> EvalResult:
    return EvalResult(
        task="retrieval", dataset="scenes", split=split, num_images=images, num_captions=5 * images, metrics=METRICS,
        provenance=WHERE,
    )  # fmt: skip


def make(tiny: PretrainedModel, recipe: Recipe, *splits: str, **changes: Any) -> str:
    record = {
        "name": "mine", "seed": 7, "recipe_hash": "0123456789abcdef", "num_steps": 4, "num_images": 6000,
        "num_captions": 30000, "broken_items": ["a: gone", "b: gone"], "seconds": {"train": 60.0, "total": 83.6},
        "provenance": WHERE, **changes,
    }  # fmt: skip
    results = {split: result(split) for split in splits or ("val", "test")}
    return model_card("mine", recipe, RunRecord.model_validate(record), results, tiny.model)


def tables(card: str) -> list[list[list[str]]]:
    found = re.findall(r"(?:^\|.*\|\n)+", card, flags=re.MULTILINE)
    return [[[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()] for table in found]


def test_hubs_find_their_front_matter(tiny: PretrainedModel, recipe: Recipe) -> None:
    _, front, text = make(tiny, recipe).split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["library_name"] == "pocketclip"
    assert values["pipeline_tag"] == "zero-shot-image-classification"
    assert "clip" in values["tags"]
    assert text.lstrip().startswith("# mine\n")


def test_the_parts_come_with_their_parameters(tiny: PretrainedModel, recipe: Recipe) -> None:
    rows = tables(make(tiny, recipe))[0]
    counts = [int(row[2].replace(",", "")) for row in rows[2:]]
    model = tiny.model
    assert counts[0] == sum(value.numel() for value in model.image_encoder.parameters())
    assert counts[1] == sum(value.numel() for value in model.text_encoder.parameters())
    assert sum(counts) == sum(value.numel() for value in model.parameters())
    assert rows[2][1] == "test_efficientnet, 32 px, from: none"
    assert rows[3][1] == "tiny-bert, 16 tokens, from: none"
    assert rows[4][1] == "linear, residual_mlp to 16"


@pytest.mark.parametrize(
    ("look", "told"),
    [
        ({}, "32 px and a second look, mirrored"),
        ({"image_size": 24}, "32 px and a second look at 24 px, mirrored"),
        ({"image_size": [24, 48], "flip": False}, "32 px and a second look at 24 x 48 px"),
    ],
)
def test_a_second_look_is_told(look: dict[str, object], told: str, tiny: PretrainedModel) -> None:
    settings: dict[str, Any] = tiny_recipe_settings()
    settings["model"]["image_encoder"]["second_look"] = look
    rows = tables(make(tiny, Recipe.parse(settings, place="test")))[0]
    assert rows[2][1] == f"test_efficientnet, {told}, from: none"


def test_scores_stand_with_intervals_and_numbers_of_each_split(tiny: PretrainedModel, recipe: Recipe) -> None:
    assert tables(make(tiny, recipe))[1][2:] == [
        [split, "1,000 / 5,000", *cells]
        for split in ("val", "test")
        for cells in (
            ["text to image", "18.6 [17.4, 19.8]", "50.0 [40.0, 60.0]", "100.0 [100.0, 100.0]", "12"],
            ["image to text", "25.0", "30.0", "35.0", "7.5"],
        )
    ]


def test_a_model_without_a_test_split_shows_validation_only(tiny: PretrainedModel, recipe: Recipe) -> None:
    assert {row[0] for row in tables(make(tiny, recipe, "val"))[1][2:]} == {"val"}


def test_every_row_of_a_table_has_its_headers_width(tiny: PretrainedModel, recipe: Recipe) -> None:
    for table in tables(make(tiny, recipe)):
        assert len({len(row) for row in table}) == 1
        assert set("".join(table[1])) == {"-"}


def test_the_recipe_inside_is_the_recipe(tiny: PretrainedModel, recipe: Recipe) -> None:
    card = make(tiny, recipe)
    (inside,) = re.findall(r"```yaml\n(.*?)```", card, flags=re.DOTALL)
    assert Recipe.parse(yaml.safe_load(inside), place="card") == recipe
    assert "(hash 0123456789abcdef)" in card


def test_the_code_to_use_it_is_real(tiny: PretrainedModel, recipe: Recipe) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", make(tiny, recipe), flags=re.DOTALL)
    calls = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    methods = {call.attr for call in calls if isinstance(call, ast.Attribute)} - {"load"}
    assert methods == {"encode_image", "encode_text"}
    assert all(hasattr(tiny, method) for method in methods)


def test_how_it_was_made_is_told(tiny: PretrainedModel, recipe: Recipe) -> None:
    card = " ".join(make(tiny, recipe).split())
    assert "6,000 images and 30,000 captions. Seed 7, 4 steps, 84 s on 2 cores of a toaster." in card
    assert "Code 0.1.0+abc, 2026-01-02. Items left out because they could not be read: 2." in card


def test_captions_that_nobody_counted_are_left_out(tiny: PretrainedModel, recipe: Recipe) -> None:
    assert "\n6,000 images. Seed 7," in make(tiny, recipe, num_captions=None)


def test_hubs_read_every_score_with_its_interval(tiny: PretrainedModel, recipe: Recipe) -> None:
    hub = pytest.importorskip("huggingface_hub")
    found = hub.ModelCard(make(tiny, recipe)).data
    assert found.model_name == "mine"
    scores = {(own.dataset_split, own.metric_type): own for own in found.eval_results}
    assert set(scores) == {(split, name) for split in ("val", "test") for name in METRICS}
    one = scores["test", "text_to_image_recall@1"]
    assert (one.task_type, one.dataset_name, one.dataset_type) == ("image-text-retrieval", "scenes", "scenes")
    assert (one.metric_value, one.metric_args) == (0.186, {"interval": "95 %", "low": 0.1741, "high": 0.198})
    again = hub.repocard_data.eval_results_to_model_index("mine", found.eval_results)
    assert again == yaml.safe_load(make(tiny, recipe).split("---\n")[1])["model-index"]
