"""Probes of both towers on drawn scenes, before training and after."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.labels import number_texts
from pocketclip.data.texts import LabelledTexts
from pocketclip.errors import UserError
from pocketclip.evaluate.unimodal import NOT_TRAINED, RANDOM_START, accuracies, image_probe, text_probe
from pocketclip.records import EvalResult, Interval

TRAIN, TEST = "scenes:80,classes=colour,image_size=32", "scenes:60,classes=colour,image_size=32,seed=1"


def value(result: EvalResult, name: str) -> float:
    metric = result.metrics[name]
    return metric.value if isinstance(metric, Interval) else metric


def started_from_file(model: PretrainedModel, folder: Path, noise: float) -> PretrainedModel:
    """The model as if its image tower had come from a file and then moved away from it."""
    from safetensors.torch import save_file

    file = folder / "tower.safetensors"
    save_file({k: v.contiguous() for k, v in model.model.image_encoder.tower.state_dict().items()}, file)
    image_encoder = model.config.image_encoder.model_copy(update={"pretrained": str(file)})
    model.config = model.config.model_copy(update={"image_encoder": image_encoder})
    with torch.no_grad():
        for parameter in model.model.image_encoder.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


def test_a_probe_of_the_colour_of_scenes_beats_chance(tiny_pretrained: PretrainedModel) -> None:
    result = image_probe(tiny_pretrained, open_source(TRAIN), open_source(TEST))
    accuracy = result.metrics["top1_accuracy"]
    assert isinstance(accuracy, Interval)
    assert accuracy.low > 1 / 8
    assert (result.num_images, result.metrics["num_classes"], result.metrics["num_training_examples"]) == (60, 8, 80)
    assert result.notes == [RANDOM_START]
    assert "top1_accuracy_start" not in result.metrics


def test_a_tower_that_lost_its_skill_is_told_by_how_much(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    model = started_from_file(tiny_pretrained, tmp_path, noise=0.3)
    result = image_probe(model, open_source(TRAIN), open_source(TEST))
    change = value(result, "top1_accuracy") - value(result, "top1_accuracy_start")
    assert value(result, "top1_accuracy_change") == pytest.approx(change)
    assert change < 0


def test_a_frozen_tower_is_its_own_start(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    model = started_from_file(tiny_pretrained, tmp_path, noise=0.0)
    result = image_probe(model, open_source(TRAIN), open_source(TEST))
    assert result.metrics["top1_accuracy_change"] == Interval(value=0, low=0, high=0)
    assert result.notes == [NOT_TRAINED]


def test_a_start_that_is_gone_is_an_error_unless_it_is_not_asked_for(
    tiny_pretrained: PretrainedModel, tmp_path: Path
) -> None:
    model = started_from_file(tiny_pretrained, tmp_path, noise=1.0)
    (tmp_path / "tower.safetensors").unlink()
    with pytest.raises(UserError, match=r"tower\.safetensors"):
        image_probe(model, open_source(TRAIN), open_source(TEST))
    assert image_probe(model, open_source(TRAIN), open_source(TEST), against_start=False).notes == []


def texts(count: int, seed: int) -> LabelledTexts:
    random = np.random.default_rng(seed)
    colours = random.choice(["red", "blue"], count)
    shapes = random.choice(["circle", "square", "star"], count)
    written = tuple(f"a {colour} {shape}" for colour, shape in zip(colours, shapes, strict=True))
    return LabelledTexts(f"texts {seed}", written, number_texts(f"texts {seed}", colours.tolist()))


def test_a_probe_of_texts_finds_their_words(tiny_pretrained: PretrainedModel) -> None:
    result = text_probe(tiny_pretrained, texts(40, 0), texts(30, 1))
    assert value(result, "top1_accuracy") > 0.9
    assert (result.task, result.num_captions, result.num_images) == ("text_probe", 30, 0)


def test_the_change_is_measured_on_pairs_of_answers() -> None:
    after = np.arange(200) % 2 == 0
    before = after.copy()
    before[:10] = ~before[:10]  # five lost, five won
    metrics = accuracies({"": after, "_start": before})
    change, end = metrics["top1_accuracy_change"], metrics["top1_accuracy"]
    assert isinstance(change, Interval)
    assert isinstance(end, Interval)
    assert change.value == 0
    assert change.high - change.low < 0.5 * (end.high - end.low)  # of answers that mostly agree


def test_a_model_with_a_shared_encoder_is_probed_before_and_behind_it(tmp_path: Path) -> None:
    import conftest
    from pocketclip.models.build import build_model
    from pocketclip.models.config import DualEncoderConfig
    from pocketclip.tokenizer import train_tokenizer

    settings = conftest.tiny_model_settings()
    settings["shared_encoder"] = {"kind": "mlp", "hidden_widths": [24]}
    settings["image_head"] = settings["text_head"] = {"kind": "linear"}
    config = DualEncoderConfig.parse(settings, place="tiny")
    tokenizer = train_tokenizer(list(texts(40, 0).texts), vocabulary_size=300, context_length=16)
    built = build_model(config, vocabulary_size=tokenizer.vocabulary_size)
    model = PretrainedModel(built, config, tokenizer, built.image_encoder.preprocess).to("cpu", precision="float32")
    result = image_probe(started_from_file(model, tmp_path, noise=0.01), open_source(TRAIN), open_source(TEST))
    assert value(result, "top1_accuracy") > 1 / 8
    assert {"top1_accuracy_start", "top1_accuracy_embedding", "top1_accuracy_change"} <= set(result.metrics)
    assert value(text_probe(model, texts(40, 0), texts(30, 1)), "top1_accuracy_embedding") > 0.5
