"""Probes of both towers on drawn scenes, before training and after."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.labels import number_texts
from pocketclip.data.shards import write_shards
from pocketclip.data.sources.texts import LabelledTexts
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import TaskData
from pocketclip.evaluate.tasks.fine_tuning import FineTuning
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.evaluate.tasks.text_probe import TextProbe
from pocketclip.evaluate.tower import NOT_TRAINED, RANDOM_START, accuracies
from pocketclip.preprocess import PreprocessConfig
from pocketclip.records import EvalResult, Interval

TRAIN, TEST = "scenes:80,classes=colour,image_size=32", "scenes:60,classes=colour,image_size=32,seed=1"


def value(result: EvalResult, name: str) -> float:
    metric = result.metrics[name]
    return metric.value if isinstance(metric, Interval) else metric


def image_probe(model: Embedder, *, against_start: bool = True) -> EvalResult:
    task = LinearProbe(against_start=against_start)
    return task.run(model, TaskData(open_source(TEST), train=open_source(TRAIN)))


def text_probe(model: Embedder) -> EvalResult:
    return TextProbe().run(model, TaskData(texts=texts(30, 1), train_texts=texts(40, 0)))


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
    result = image_probe(tiny_pretrained)
    accuracy = result.metrics["top1_accuracy"]
    assert isinstance(accuracy, Interval)
    assert accuracy.low > 1 / 8
    assert (result.num_images, result.metrics["num_classes"], result.metrics["num_training_examples"]) == (60, 8, 80)
    assert result.notes == [RANDOM_START]
    assert "top1_accuracy_start" not in result.metrics


def test_a_probe_learns_from_converted_data_what_it_learns_from_the_data(
    tiny_pretrained: PretrainedModel, tmp_path: Path
) -> None:
    colours = {"bird": (0, 0, 255), "cat": (255, 0, 0), "dog": (0, 255, 0)}
    for part, names in (("train", ("bird", "cat", "dog")), ("test", ("cat", "dog"))):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(6):
                picture = Image.new("RGB", (32, 32 + number), colours[name])
                picture.save(tmp_path / part / name / f"{number}.png")
    train, test = (open_source(f"folder:{tmp_path / part},classes=folders") for part in ("train", "test"))
    write_shards(train, tmp_path / "shards")
    results = [
        LinearProbe(against_start=False).run(tiny_pretrained, TaskData(test, train=learned))
        for learned in (train, open_source(f"webdataset:{tmp_path / 'shards'}"))
    ]
    assert value(results[0], "top1_accuracy") == 1
    assert results[1].metrics == results[0].metrics
    assert results[1].notes == results[0].notes == []
    (tmp_path / "shards" / "classnames.txt").unlink()
    numbered = open_source(f"webdataset:{tmp_path / 'shards'}")
    result = LinearProbe(against_start=False).run(tiny_pretrained, TaskData(test, train=numbered))
    assert result.notes == [f"classes matched by number: {numbered.name} names none"]


def test_a_tower_that_lost_its_skill_is_told_by_how_much(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    model = started_from_file(tiny_pretrained, tmp_path, noise=0.3)
    result = image_probe(model)
    change = value(result, "top1_accuracy") - value(result, "top1_accuracy_start")
    assert value(result, "top1_accuracy_change") == pytest.approx(change)
    assert change < 0


def test_a_frozen_tower_is_its_own_start(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    model = started_from_file(tiny_pretrained, tmp_path, noise=0.0)
    result = image_probe(model)
    assert result.metrics["top1_accuracy_change"] == Interval(value=0, low=0, high=0)
    assert result.notes == [NOT_TRAINED]


def test_a_start_that_is_gone_is_an_error_unless_it_is_not_asked_for(
    tiny_pretrained: PretrainedModel, tmp_path: Path
) -> None:
    model = started_from_file(tiny_pretrained, tmp_path, noise=1.0)
    (tmp_path / "tower.safetensors").unlink()
    with pytest.raises(UserError, match=r"tower\.safetensors"):
        image_probe(model)
    assert image_probe(model, against_start=False).notes == []


def texts(count: int, seed: int) -> LabelledTexts:
    random = np.random.default_rng(seed)
    colours = random.choice(["red", "blue"], count)
    shapes = random.choice(["circle", "square", "star"], count)
    written = tuple(f"a {colour} {shape}" for colour, shape in zip(colours, shapes, strict=True))
    return LabelledTexts(f"texts {seed}", written, number_texts(f"texts {seed}", colours.tolist()))


def test_a_probe_of_texts_finds_their_words(tiny_pretrained: PretrainedModel) -> None:
    result = text_probe(tiny_pretrained)
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
    result = image_probe(started_from_file(model, tmp_path, noise=0.01))
    assert value(result, "top1_accuracy") > 1 / 8
    assert {"top1_accuracy_start", "top1_accuracy_embedding", "top1_accuracy_change"} <= set(result.metrics)
    assert value(text_probe(model), "top1_accuracy_embedding") > 0.5


class AverageColour(Embedder):
    """Another library's model of images, which is blind to all but colour."""

    name, embed_dim = "other:colour", 3
    preprocess = PreprocessConfig(image_size=32)

    def encode_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        vectors = 255.0 - pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_texts(self, tokens: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        raise NotImplementedError

    def made_from(self) -> dict[str, object]:
        return {}


def test_of_another_librarys_model_the_embedding_is_probed() -> None:
    result = image_probe(AverageColour())
    assert value(result, "top1_accuracy_embedding") > 1 / 8
    assert [name for name in result.metrics if name.startswith("top1")] == ["top1_accuracy_embedding"]
    assert [row[0] for row in LinearProbe().rows(result)] == ["the embedding", "always the commonest class"]
    assert result.notes == []


def test_what_another_librarys_model_cannot_do_is_one_sentence() -> None:
    with pytest.raises(UserError, match="other:colour: --task fine_tuning looks inside the towers"):
        FineTuning().run(AverageColour(), TaskData(open_source(TRAIN)))
    with pytest.raises(UserError, match="other:colour: knows images only"):
        text_probe(AverageColour())
