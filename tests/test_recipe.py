"""Recipes: found by name or path, changed by key, and wrong in clear words."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from conftest import tiny_recipe_settings
from pocketclip.config import digest
from pocketclip.errors import UserError
from pocketclip.recipe import Recipe, dump_recipe, load_recipe
from pocketclip.shipped_recipes import find_recipe, list_recipes

Write = Callable[..., Path]


def message(file: Path | str, *changes: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(str(file), changes)
    return str(caught.value)


def parse(**changes: object) -> Recipe:
    return Recipe.parse({**tiny_recipe_settings(), **changes}, place="a.yaml")


def test_a_shipped_recipe_is_found_by_its_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forms = ("quickstart/openmoji", "quickstart/openmoji.yaml", "recipes/quickstart/openmoji.yaml")
    assert len({find_recipe(form) for form in forms}) == 1
    assert load_recipe(forms[0]) == load_recipe(forms[2])


def test_every_listed_name_is_found() -> None:
    names = list_recipes()
    assert names == sorted(names)
    assert all(find_recipe(name).is_file() for name in names)


def test_a_file_of_ones_own_is_found_by_its_path(tiny_recipe_file: Write) -> None:
    file = tiny_recipe_file()
    assert find_recipe(str(file)) == file
    assert load_recipe(str(file)) == Recipe.parse(tiny_recipe_settings(), place="x")


def test_a_file_here_goes_before_a_shipped_one(
    tiny_recipe_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quickstart").mkdir()
    tiny_recipe_file().rename(tmp_path / "quickstart" / "openmoji.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("quickstart/openmoji.yaml").model.embed_dim == 16


def test_a_run_folder_stands_for_its_recipe(tiny_recipe_file: Write, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    saved = tiny_recipe_file().rename(tmp_path / "run" / "recipe.yaml")
    assert find_recipe(str(tmp_path / "run")) == saved


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    assert message(tmp_path).startswith(f"Unknown recipe '{tmp_path}'.")


def test_an_unknown_name_gets_the_nearest_and_all_known() -> None:
    text = message("flikr/flickr8k_heads_cpu")
    assert text.startswith("Unknown recipe 'flikr/flickr8k_heads_cpu'. Did you mean 'flickr/flickr8k_heads_cpu'?")
    assert all(name in text for name in list_recipes())


@pytest.mark.parametrize("name", [name for name in list_recipes() if "reinforce_" not in name])
def test_what_is_dumped_is_read_back(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    file = tmp_path / "dumped.yaml"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    again = load_recipe(str(file))
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()
    assert dump_recipe(again) == file.read_text(encoding="utf-8")


def test_a_dump_writes_out_every_default_in_the_order_of_the_sections() -> None:
    values = yaml.safe_load(dump_recipe(parse()))
    assert list(values) == ["data", "model", "objective", "teachers", "heads_first", "train", "seed"]
    assert values["train"]["max_grad_norm"] == 1.0
    assert values["objective"]["loss"] == {"kind": "clip", "label_smoothing": 0.0}
    assert digest(values) == parse().fingerprint()


def test_names_beyond_ascii_stay_readable(tmp_path: Path) -> None:
    data = {"train": "folder:Fotos von Zoë"}
    text = dump_recipe(parse(data=data))
    assert "dir: Fotos von Zoë" in text


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("train.num_steps=100", "train.num_steps", 100),
        ("train.learning_rate.heads=1e-3", "train.learning_rate.heads", 0.001),
        ("train.max_grad_norm=null", "train.max_grad_norm", None),
        ("train.max_grad_norm=", "train.max_grad_norm", None),
        ("model.learn_temperature=off", "model.learn_temperature", False),
        ("model.image_encoder.joined_stages=[0, -1]", "model.image_encoder.joined_stages", (0, -1)),
        ("objective.loss.kind=multi_positive", "objective.loss.kind", "multi_positive"),  # loss is not in the file
        ("data.train={kind: scenes, count: 9}", "data.train.count", 9),
        ("data.train=scenes:9,seed=5", "data.train.seed", 5),
        ("data.train=folder:my photos #1", "data.train.dir", Path("my photos #1")),
        (" seed =3", "seed", 3),
    ],
)
def test_a_change_replaces_one_value(change: str, key: str, value: object, tiny_recipe_file: Write) -> None:
    found: object = load_recipe(str(tiny_recipe_file()), [change])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_changes_apply_in_their_order_and_leave_the_rest(tiny_recipe_file: Write) -> None:
    file = tiny_recipe_file()
    changed = load_recipe(str(file), ["seed=1", "seed=2", "train.schedule.kind=constant"])
    assert changed.seed == 2
    assert changed.train.schedule.kind == "constant"
    assert changed.model == load_recipe(str(file)).model


@pytest.mark.parametrize("change", ["model.text_encoder.name='2024'", 'model.text_encoder.name="2024"'])
def test_a_quoted_value_is_a_text_as_in_yaml(change: str, tiny_recipe_file: Write) -> None:
    assert load_recipe(str(tiny_recipe_file()), [change]).model.text_encoder.name == "2024"


@pytest.mark.parametrize("change", ["train", "=3", "train.num_steps"])
def test_a_change_without_key_or_value_shows_the_form(change: str, tiny_recipe_file: Write) -> None:
    text = message(tiny_recipe_file(), change)
    assert text == f"--set {change}: should be KEY=VALUE, such as train.num_steps=100."


def test_a_change_below_a_value_names_the_value(tiny_recipe_file: Write) -> None:
    text = message(tiny_recipe_file(), "train.num_steps.x=3")
    assert text == "--set train.num_steps.x=3: 'num_steps' is the value 4, which has no keys below it."


def test_a_change_whose_value_is_not_yaml_is_named(tiny_recipe_file: Write) -> None:
    assert message(tiny_recipe_file(), "train.num_steps={").startswith("--set train.num_steps={: the value is not")


def test_a_day_that_does_not_exist_is_a_users_error(tiny_recipe_file: Write) -> None:
    file = tiny_recipe_file()
    assert message(file, "seed=2023-02-30").startswith("--set seed=2023-02-30: the value is not")
    file.write_text("seed: 2023-02-30\n")
    assert message(file).startswith(f"{file}: not valid YAML")


def test_every_problem_is_told_at_once_as_file_key_reason(tiny_recipe_file: Write) -> None:
    file = tiny_recipe_file(batch_size=1, num_stpes=3)
    lines = message(file, "model.embed_dim=wide", "seed=-1", "data.hold_out=1").splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    problems = {line.removeprefix(f"{file}: ").split(": ")[0]: line for line in lines}
    assert set(problems) == {"train.batch_size", "train.num_stpes", "model.embed_dim", "seed", "data.hold_out"}
    assert problems["train.num_stpes"].endswith("(got 3)")
    assert problems["seed"].endswith("(got -1)")


def test_missing_sections_are_all_named(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("seed: 1\n")
    assert message(file).splitlines() == [
        f"{file}: {key}: is required" for key in ("data", "model", "objective", "train")
    ]


@pytest.mark.parametrize(
    ("change", "nearest"),
    [("train.num_stpes=3", "num_steps"), ("data.hold_uot=0.2", "hold_out"), ("sed=1", "seed")],
)
def test_a_misspelt_key_gets_the_nearest_name(change: str, nearest: str, tiny_recipe_file: Write) -> None:
    key = change.partition("=")[0]
    (line,) = message(tiny_recipe_file(), change).splitlines()
    assert f"{key}: " in line
    assert f"Did you mean '{nearest}'?" in line


def test_a_misspelt_kind_gets_the_nearest_name(tiny_recipe_file: Write) -> None:
    (line,) = message(tiny_recipe_file(), "objective.loss.kind=sigmiod").splitlines()
    assert "Did you mean 'sigmoid'?" in line


@pytest.mark.parametrize(
    ("change", "key"),
    [("data.train.cuont=3", "data.train.cuont"), ("train.schedule={kind: cosine, wramup: 0}", "train.schedule.wramup")],
)
def test_a_key_inside_a_union_is_named_as_the_user_writes_it(change: str, key: str, tiny_recipe_file: Write) -> None:
    assert f": {key}: unknown key" in message(tiny_recipe_file(), change)


def test_a_misspelt_source_gets_the_nearest_name(tiny_recipe_file: Write) -> None:
    assert "data.train: Unknown kind of source 'sceness'. Did you mean 'scenes'?" in message(
        tiny_recipe_file(), "data.train=sceness:3"
    )


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert message(file).startswith(f"{file}: should hold keys such as data, model and train (got ")


@pytest.mark.parametrize("content", [b"data: [", b"\xff\xfe\x00", b"a: b: c"])
def test_a_file_that_is_no_yaml_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    text = message(file)
    assert text.startswith(f"{file}: not valid YAML (")
    assert "\n" not in text


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(dump_recipe(parse()) + "seed: 7\n")
    assert "seed" in message(file)


def test_a_bias_without_a_sigmoid_loss_has_no_effect_and_is_refused(tiny_recipe_file: Write) -> None:
    assert "model.logit_bias has no effect with a clip loss" in message(tiny_recipe_file(), "model.logit_bias=-3")


ALONE = {"num_steps": 2, "batch_size": 4, "learning_rate": {"heads": 0.1}}
CACHED = {"num_steps": 4, "batch_size": 4, "learning_rate": {"heads": 0.001}, "cache": {}}


def test_a_first_stage_needs_a_cache() -> None:
    with pytest.raises(UserError, match=r"^a\.yaml: \(whole\): heads_first needs a cache section"):
        parse(heads_first={**CACHED, "cache": None})


def test_two_cached_stages_are_one() -> None:
    with pytest.raises(UserError, match=r"heads_first and train both use the cache; join them into train"):
        parse(heads_first=CACHED, train=CACHED)


def test_stages_are_in_order_and_a_recipe_without_early_ones_is_written_as_before() -> None:
    stages = parse(heads_first=CACHED, early_stages=[{**ALONE, "name": "low"}, {**ALONE, "name": "whole"}]).stages
    assert list(stages) == ["heads_first", "low", "whole", "train"]
    assert "early_stages" not in parse().model_dump(mode="json")


@pytest.mark.parametrize("names", [["train"], ["heads_first"], ["low", "low"]])
def test_stages_have_names_of_their_own(names: list[str]) -> None:
    with pytest.raises(UserError, match="early_stages need names of their own"):
        parse(early_stages=[{**ALONE, "name": name} for name in names])


def test_neighbours_that_cache_are_one_stage() -> None:
    with pytest.raises(UserError, match="heads_first and more both use the cache; join them into more"):
        parse(heads_first=CACHED, early_stages=[{**CACHED, "name": "more"}])


def test_heads_alone_may_come_before_a_text_tower_over_the_same_pictures() -> None:
    text = {**CACHED, "learning_rate": {"heads": 0.001, "text_encoder": 0.001}}
    recipe = parse(heads_first=CACHED, train=text)
    assert [stage.is_heads_only for stage in recipe.stages.values()] == [True, False]
    with pytest.raises(UserError, match="more and train both use the cache"):
        parse(early_stages=[{**text, "name": "more"}], train=text)


def test_what_is_wrong_between_settings_is_told_without_all_of_them() -> None:
    with pytest.raises(UserError) as error:
        parse(heads_first=CACHED, train=CACHED)
    assert str(error.value).endswith("join them into train")


def test_cached_pictures_have_the_towers_size() -> None:
    with pytest.raises(UserError, match="image_size has no effect with cache"):
        parse(early_stages=[{**CACHED, "name": "low", "image_size": 16}])


def test_the_first_stage_of_heads_trains_no_tower() -> None:
    with pytest.raises(
        UserError, match=r"heads_first trains the heads alone; leave its learning_rate\.text_encoder out"
    ):
        parse(heads_first={**CACHED, "learning_rate": {"heads": 0.1, "text_encoder": 0.1}})


@pytest.mark.parametrize("loss", ["clip", "soft_target"])
@pytest.mark.parametrize("stage", ["heads_first", "train"])
def test_several_captions_an_image_need_a_loss_that_knows_them(loss: str, stage: str) -> None:
    settings = tiny_recipe_settings(captions_per_image=2 if stage == "train" else 1)
    settings["objective"] = {"kind": "contrastive", "loss": {"kind": loss}}
    settings["heads_first"] = {**CACHED, "captions_per_image": 2 if stage == "heads_first" else 1}
    with pytest.raises(UserError, match=f"{loss} takes one caption an image; use multi_positive or sigmoid"):
        Recipe.parse(settings, place="a.yaml")
    settings["objective"] = {"kind": "contrastive", "loss": {"kind": "multi_positive"}}
    assert Recipe.parse(settings, place="a.yaml")


def test_a_sigmoid_loss_needs_a_bias_and_says_where_to_start_it() -> None:
    settings = tiny_recipe_settings(batch_size=512)
    settings["objective"] = {"kind": "contrastive", "loss": {"kind": "sigmoid"}}
    with pytest.raises(UserError, match=r"needs model\.logit_bias; start it at -ln\(batch_size - 1\).*of 512"):
        Recipe.parse(settings, place="a.yaml")
    settings["model"] = {**settings["model"], "logit_bias": -6.2}  # type: ignore[dict-item]
    assert Recipe.parse(settings, place="a.yaml")


# Teachers

STORED = {"data": {"train": "reinforced:somewhere", "val": "scenes:8"}}
TAUGHT = {"objective": {"kind": "distillation", "terms": [{"kind": "feature"}]}}


def test_objectives_with_teachers_need_some() -> None:
    for objective in ({"kind": "reinforced"}, TAUGHT["objective"]):
        with pytest.raises(UserError, match=r"learns from teachers: name some in a teachers section, or train on"):
            parse(objective=objective)
        assert parse(objective=objective, **STORED)
    assert parse(objective={"kind": "reinforced", "distill_weight": 0})


LIVE = {"teachers": [{"kind": "bundle", "path": "runs/large"}]}


def test_live_teachers_have_to_be_heard_and_to_be_the_only_ones() -> None:
    assert parse(**LIVE, **TAUGHT).teachers[0].path == "runs/large"  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"teachers have no effect with objective\.kind contrastive"):
        parse(**LIVE)
    with pytest.raises(UserError, match=r"no effect with objective\.kind reinforced with distill_weight 0"):
        parse(**LIVE, objective={"kind": "reinforced", "distill_weight": 0})
    with pytest.raises(UserError, match=r"reinforced:DIR brings its own teachers; leave the teachers section out"):
        parse(**LIVE, **TAUGHT, **STORED)
    with pytest.raises(UserError, match=r"teachers\.0: Unknown kind 'bundel'\. Did you mean 'bundle'"):
        parse(teachers=[{"kind": "bundel"}], **TAUGHT)


def test_teachers_and_cached_features_speak_of_the_same_views() -> None:
    with pytest.raises(UserError, match=r"heads_first\.cache keeps .* or leave it out"):
        parse(**STORED, **TAUGHT, heads_first=CACHED)
    with pytest.raises(UserError, match=r"train\.cache keeps .* take reinforced data and cache: \{views: stored\}"):
        parse(**STORED, **TAUGHT, train=CACHED)
    stored = {**CACHED, "cache": {"views": "stored"}}
    with pytest.raises(UserError, match=r"with train\.cache needs a trained text tower"):
        parse(**STORED, **TAUGHT, train=stored)
    with pytest.raises(UserError, match=r"with heads_first\.cache needs a trained text tower: .* or leave it out"):
        parse(**STORED, **TAUGHT, heads_first=stored)
    with_texts = {**stored, "learning_rate": {"heads": 0.001, "text_encoder": 0.001}}
    assert not parse(**STORED, **TAUGHT, train=with_texts).train.is_heads_only
    assert parse(**STORED, **TAUGHT, early_stages=[{"name": "text", **with_texts}]).early_stages
    with pytest.raises(UserError, match=r"text\.cache keeps .* take reinforced data"):
        parse(**STORED, **TAUGHT, early_stages=[{"name": "text", **with_texts, "cache": {"views": ["centre"]}}])
    with pytest.raises(UserError, match=r"views: stored are those of data\.train: reinforced:DIR.*got .*scenes"):
        parse(train=with_texts)


def test_synthetic_captions_come_from_reinforced_data() -> None:
    settings = tiny_recipe_settings(synthetic_captions_per_image=1)
    with pytest.raises(UserError, match=r"needs data\.train: reinforced:DIR.*got data\.train\.kind scenes"):
        Recipe.parse({**settings, "objective": {"kind": "reinforced", "distill_weight": 0}}, place="a.yaml")
    with pytest.raises(UserError, match="clip takes one caption an image"):
        Recipe.parse({**settings, **STORED}, place="a.yaml")
    assert Recipe.parse({**settings, **STORED, **TAUGHT}, place="a.yaml")
    with pytest.raises(UserError, match="synthetic_captions_per_image has no effect with cache"):
        parse(train={**CACHED, "synthetic_captions_per_image": 1})


def test_several_captions_suit_every_loss_of_an_objective_with_teachers() -> None:
    settings = tiny_recipe_settings(captions_per_image=3)
    assert Recipe.parse({**settings, **STORED, "objective": {"kind": "reinforced"}}, place="a.yaml")
    assert Recipe.parse({**settings, **STORED, **TAUGHT}, place="a.yaml")


def test_reinforced_data_bring_their_views() -> None:
    settings = tiny_recipe_settings(augment={"flip": True})
    with pytest.raises(UserError, match=r"train\.augment has no effect on reinforced data"):
        Recipe.parse({**settings, **STORED}, place="a.yaml")


def test_a_bias_belongs_to_the_sigmoid_loss_of_any_objective() -> None:
    terms = [{"kind": "contrastive", "loss": {"kind": "sigmoid"}}, {"kind": "feature"}]
    objective = {"kind": "distillation", "terms": terms}
    with pytest.raises(UserError, match=r"needs model\.logit_bias"):
        parse(**STORED, objective=objective)
    model = {**tiny_recipe_settings()["model"], "logit_bias": -3.0}  # type: ignore[dict-item]
    assert parse(**STORED, objective=objective, model=model)
    with pytest.raises(UserError, match="logit_bias has no effect with a distillation loss"):
        parse(**STORED, **TAUGHT, model=model)


def test_a_problem_within_a_term_is_named_as_it_is_written() -> None:
    with pytest.raises(UserError, match=r"a\.yaml: objective\.terms\.0\.wieght: .*Did you mean 'weight'"):
        parse(**STORED, objective={"kind": "distillation", "terms": [{"kind": "feature", "wieght": 2}]})
