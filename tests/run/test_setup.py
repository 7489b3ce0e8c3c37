"""Before the first step: the run's folder, sources, tokenizer and model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from conftest import tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data.sources.scenes import ScenesSource, ScenesSourceConfig
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.recipe import Recipe, load_recipe
from pocketclip.run.data import open_data
from pocketclip.run.setup import prepare_folder, starting_model
from pocketclip.tokenizer import Tokenizer, TokenizerKind, train_tokenizer


def recipe(**changes: Any) -> Recipe:
    """The tiny recipe; `text_encoder` and `data` change those sections, the rest the training."""
    text, data = changes.pop("text_encoder", {}), changes.pop("data", {})
    settings: dict[str, Any] = tiny_recipe_settings(**changes)
    settings["model"]["text_encoder"] = {**settings["model"]["text_encoder"], **text}
    settings["data"] = {**settings["data"], **data}
    return Recipe.parse(settings, place="test")


def write_tokenizer(path: Path, size: int) -> Path:
    words = {"[UNK]": 0, **{f"word{number}": number for number in range(1, size)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path


def test_a_hash_is_that_of_the_resolved_recipe(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    settings = tiny_recipe_settings()
    file.write_text(json.dumps({**settings, "seed": 0}))
    assert load_recipe(str(file)).fingerprint() == recipe().fingerprint()  # a default written out or not
    assert len({recipe(num_steps=steps).fingerprint() for steps in (4, 5)}) == 2
    assert len(recipe().fingerprint()) == 16


def test_a_new_folder_gets_the_resolved_recipe(tmp_path: Path) -> None:
    prepare_folder(recipe(), tmp_path / "runs" / "new", resume=False)
    assert load_recipe(str(tmp_path / "runs" / "new")) == recipe()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    prepare_folder(recipe(), tmp_path, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_resuming_where_nothing_was_begun_begins(tmp_path: Path) -> None:
    prepare_folder(recipe(), tmp_path / "new", resume=True)
    assert load_recipe(str(tmp_path / "new")) == recipe()


def test_a_run_goes_on_with_resume_only(tmp_path: Path) -> None:
    prepare_folder(recipe(), tmp_path, resume=False)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    prepare_folder(recipe(), tmp_path, resume=True)
    with pytest.raises(UserError, match=r"holds a run already. Go on with --resume, choose another --out, or delete"):
        prepare_folder(recipe(), tmp_path, resume=False)
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 8}, "'batch_size: 4' there, 'batch_size: 8' now"),
        ({"data": {"train": "scenes:25"}}, "'count: 24' there, 'count: 25' now"),
        ({"captions_per_image": 1, "log_every": 3}, "'log_every: 10' there, 'log_every: 3' now"),
    ],
)
def test_another_recipe_is_not_resumed_and_the_difference_is_named(
    changes: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    prepare_folder(recipe(), tmp_path, resume=False)
    with pytest.raises(UserError, match="was begun with another recipe") as caught:
        prepare_folder(recipe(**changes), tmp_path, resume=True)
    assert str(caught.value).endswith(f"First difference: {difference}.")
    assert load_recipe(str(tmp_path)) == recipe()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(UserError, match=r"is not empty and holds no run; choose another --out"):
            prepare_folder(recipe(), tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_place_that_cannot_be_a_folder_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=rf"{name}: cannot be made \(.*\); choose another --out"):
        prepare_folder(recipe(), tmp_path / name, resume=False)


def test_sources_are_those_of_the_recipe() -> None:
    train, val = open_data(recipe().data)
    assert (len(train), len(val)) == (24, 8)
    assert train.fingerprint() != val.fingerprint()


def test_without_val_a_share_of_the_training_images_is_held_out() -> None:
    config = recipe(data={"val": None, "hold_out": 0.25}).data
    train, val = open_data(config)
    assert (len(train), len(val)) == (18, 6)
    keys = [{source[index].key for index in range(len(source))} for source in (train, val)]
    assert not keys[0] & keys[1]
    again = open_data(config)
    assert [source.fingerprint() for source in again] == [train.fingerprint(), val.fingerprint()]


def test_images_that_belong_together_are_not_held_out() -> None:
    twins = {"kind": "scenes", "count": 40, "twinned": True}
    with pytest.raises(UserError, match=r"data\.val: is needed with scenes:40"):
        open_data(recipe(data={"val": None, "train": twins}).data)


def test_a_vocabulary_learned_from_captions_is_the_towers() -> None:
    chosen = recipe()
    source, _ = open_data(chosen.data)
    tokenizer, model = starting_model(chosen, source)
    captions = [caption for index in range(len(source)) for caption in source.captions(index)]
    expected = train_tokenizer(captions, vocabulary_size=300, context_length=16)
    assert tokenizer.to_json() == expected.to_json()
    assert model.text_encoder.tower.get_input_embeddings().num_embeddings == tokenizer.vocabulary_size <= 300
    assert "[UNK]" not in tokenizer.core.encode("two small red circles above a large blue star").tokens


@dataclass(frozen=True)
class WithBroken(ScenesSource):
    """Scenes of which number 2 cannot be read."""

    def captions(self, index: int) -> tuple[str, ...]:
        if index == 2:
            raise BrokenItemError("scene 2: gone")
        return super().captions(index)


def test_a_broken_item_does_not_stop_the_vocabulary() -> None:
    source = WithBroken("scenes", ScenesSourceConfig(count=24))
    captions = [caption for index in range(24) if index != 2 for caption in source.captions(index)]
    tokenizer, _ = starting_model(recipe(), source)
    assert tokenizer.to_json() == train_tokenizer(captions, vocabulary_size=300, context_length=16).to_json()


def test_pretrained_words_do_not_take_a_learned_vocabulary() -> None:
    chosen = recipe(text_encoder={"name": "all-MiniLM-L6-v2", "pretrained": "package"})
    with pytest.raises(UserError, match=r"tokenizer: captions needs pretrained: none \(got package\)"):
        starting_model(chosen, open_data(chosen.data)[0])


def test_a_tokenizer_file_is_used_as_it_is(tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path / "words.json", 50)
    chosen = recipe(text_encoder={"tokenizer": str(path)})
    tokenizer, model = starting_model(chosen, open_data(chosen.data)[0])
    assert tokenizer.to_json() == Tokenizer.from_file(path, 16).to_json()
    tokens, mask = tokenizer.encode(["word1 word49"])
    assert tokens.tolist() == [[1, 49]]
    assert model.encode_text(torch.from_numpy(tokens), torch.from_numpy(mask)).shape == (1, 16)


@pytest.mark.parametrize("size", [30522, 30523])
def test_a_tokenizer_with_more_ids_than_the_tower_embeds_is_refused(size: int, tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path / "words.json", size)
    chosen = recipe(text_encoder={"tokenizer": str(path)})
    if size == 30522:
        assert starting_model(chosen, open_data(chosen.data)[0])[0].vocabulary_size == size
        return
    with pytest.raises(UserError, match=r"the tokenizer has 30523 ids and the tower embeds 30522; they do not belong"):
        starting_model(chosen, open_data(chosen.data)[0])


def test_the_same_seed_builds_the_same_model() -> None:
    chosen = recipe()
    models = []
    for _ in range(2):
        torch.manual_seed(chosen.seed)
        models.append(starting_model(chosen, open_data(chosen.data)[0])[1])
    for (name, one), other in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_a_learned_vocabulary_has_the_kind_asked_for(kind: TokenizerKind) -> None:
    tokenizer, model = starting_model(recipe(text_encoder={"tokenizer_kind": kind}), open_data(recipe().data)[0])
    assert json.loads(tokenizer.to_json())["model"]["type"].lower() == kind
    tokens, mask = tokenizer.encode(["two small red circles"])
    assert model.encode_text(torch.from_numpy(tokens), torch.from_numpy(mask)).shape == (1, 16)


def test_settings_of_the_vocabulary_without_effect_are_refused() -> None:
    for changes in ({"vocabulary": "occurring"}, {"tokenizer": "bert", "tokenizer_kind": "bpe"}):
        with pytest.raises(UserError, match=r"model\.text_encoder: \w+: \w+ has no effect on tokenizer"):
            recipe(text_encoder=changes)


def test_a_vocabulary_cut_to_what_occurs_gives_the_same_features_and_stays_cut_in_a_bundle(tmp_path: Path) -> None:
    source, _ = open_data(recipe().data)
    captions = [caption for index in range(len(source)) for caption in source.captions(index)]
    models = []
    for vocabulary in ("all", "occurring"):
        chosen = recipe(text_encoder={"tokenizer": "bert", "vocabulary": vocabulary})
        torch.manual_seed(0)
        tokenizer, model = starting_model(chosen, source)
        preprocess = model.image_encoder.preprocess
        models.append(PretrainedModel(model.eval(), chosen.model, tokenizer, preprocess).to("cpu", precision="float32"))
    whole, cut = models
    assert whole.tokenizer.vocabulary_size == 30522
    assert cut.tokenizer.vocabulary_size == cut.model.architecture()["vocab_size"] < 2100
    assert (whole.encode_text(captions) == cut.encode_text(captions)).all()
    loaded = PretrainedModel.from_pretrained(cut.save_pretrained(tmp_path / "bundle")).to("cpu", precision="float32")
    others = [*captions, "a zebra crossing", "狗"]
    assert (loaded.encode_text(others) == cut.encode_text(others)).all()
    assert loaded.model.architecture()["vocab_size"] == cut.tokenizer.vocabulary_size


def test_a_run_whose_data_were_refused_leaves_a_folder_that_can_be_begun_anew(tmp_path: Path) -> None:
    prepare_folder(recipe(), tmp_path / "run", resume=False)
    prepare_folder(recipe(batch_size=6), tmp_path / "run", resume=False)
    assert load_recipe(str(tmp_path / "run")).train.batch_size == 6
    (tmp_path / "run" / "checkpoints").mkdir()
    with pytest.raises(UserError, match="holds a run already"):
        prepare_folder(recipe(batch_size=8), tmp_path / "run", resume=False)
