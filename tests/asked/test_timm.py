"""timm models as teachers of images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pocketclip.asked import AskedModel, LibraryModel, TimmModelConfig
from pocketclip.distill import build_teachers
from pocketclip.distill.config import ReinforceConfig
from pocketclip.errors import UserError

CPU = torch.device("cpu")


def make(feature: str = "cls", **changes: Any) -> AskedModel:
    values = {"name": "test_vit", "pretrained": "none", "image_size": 32, "feature": feature, **changes}
    torch.manual_seed(0)
    (teacher,) = build_teachers([TimmModelConfig.parse(values, place="test")], CPU, "float32")
    return teacher


def pictures(count: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_class_token_comes_before_the_final_norm_and_as_long_as_it_is() -> None:
    teacher = make()
    found = teacher.embed_images(pictures())
    assert (teacher.kind, teacher.short_name) == ("timm", "test_vit")
    assert (teacher.embed_dim, teacher.preprocess.image_size) == (64, 32)
    assert found.shape == (3, 64)
    assert isinstance(teacher, LibraryModel)
    tower = teacher.module.tower
    tokens: list[torch.Tensor] = []
    tower.blocks[-1].register_forward_hook(lambda module, inputs, output: tokens.append(output))
    found = teacher.embed_images(pictures())
    torch.testing.assert_close(found, tokens[0][:, 0])
    lengths = found.norm(dim=1)
    assert not torch.allclose(lengths, torch.ones(3), atol=0.01)


@pytest.mark.parametrize(("feature", "width"), [("average", 256), ("logits", 1000)])
def test_a_convolutional_classifier_gives_its_average_or_its_logits(feature: str, width: int) -> None:
    teacher = make(feature, name="test_resnet")
    assert teacher.embed_dim == teacher.embed_images(pictures()).shape[1]
    assert feature != "logits" or teacher.embed_dim == width


def test_it_knows_no_captions() -> None:
    teacher = make()
    assert teacher.tokenizer is None
    with pytest.raises(AssertionError, match="knows images only"):
        teacher.embed_tokens(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))


def test_weights_from_a_file_with_and_without_the_classifier(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(5)
    model = timm.create_model("test_resnet").eval()
    torch.save(model.state_dict(), tmp_path / "resnet.pth")
    settings = {"name": "test_resnet", "pretrained": str(tmp_path / "resnet.pth")}
    logits, average = make("logits", **settings), make("average", **settings)
    assert logits.short_name == "test_resnet-resnet"
    with torch.no_grad():
        head = model.get_classifier()
        torch.testing.assert_close(logits.embed_images(pictures()), head(average.embed_images(pictures())))


def test_the_mark_changes_with_the_feature_and_the_weights() -> None:
    torch.manual_seed(0)
    marks = {make().fingerprint, make("average").fingerprint, make(image_size=64).fingerprint}
    assert len(marks) == 3
    assert make().fingerprint in marks


def test_two_of_a_kind_get_two_names() -> None:
    config = TimmModelConfig(name="test_vit", pretrained="none", feature="cls", image_size=32)
    assert len({teacher.short_name for teacher in build_teachers([config, config], CPU)}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 40}, r"Teacher timm test_vit: image_size: this tower takes no pictures of 40 px"),
        ({"name": "test_resnet"}, "Teacher timm test_resnet: cannot be built at 32 px .*token"),
        ({"name": "test_vitt"}, "Unknown timm image tower 'test_vitt'.*test_vit"),
        ({"pretrained": "nowhere.pth"}, r"Teacher timm test_vit: nowhere\.pth: no such weights file"),
        ({"pretrained": "package"}, "weights in a pip package"),
    ],
)
def test_what_cannot_be_had_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_what_is_stored_needs_captions_too() -> None:
    teacher = {"kind": "timm", "name": "test_vit", "pretrained": "none", "feature": "cls"}
    values = {"source": "scenes", "teachers": [teacher], "augment": {"flip": True}, "num_views": 2}
    with pytest.raises(UserError, match="teachers: timm test_vit knows images only"):
        ReinforceConfig.parse(values, place="test")


def test_settings_that_are_left_out_are_not_written_so_that_recipes_keep_their_hash() -> None:
    config = TimmModelConfig(name="test_vit", feature="cls")
    assert list(config.model_dump(mode="json")) == ["kind", "name", "pretrained", "feature", "image_size", "resize"]
    cropped = config.model_copy(update={"crop_fraction": 0.9})
    assert cropped.model_dump(mode="json")["crop_fraction"] == 0.9
    assert TimmModelConfig.parse(cropped.model_dump(mode="json"), place="test") == cropped
    assert TimmModelConfig.parse(config.model_dump(mode="json"), place="test") == config
