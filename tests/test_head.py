"""A kept head: what comes back from its file, and files that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from conftest import build_tiny_pretrained, encode_picture
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.head import KIND, MAX_BYTES, Head, check_place
from pocketclip.records import EvalResult, Interval

NAMES = ("cat", "dog", "Größe")


def head_of(model: PretrainedModel, **changes: Any) -> Head:
    random = np.random.default_rng(0)
    measured = EvalResult(
        task="linear_probe", dataset="folder:x", split="all", num_images=9, num_captions=0,
        metrics={"top1_accuracy_embedding": Interval(value=0.5, low=0.4, high=0.6)},
    )  # fmt: skip
    values = {
        "weight": random.normal(size=(3, model.embed_dim)).astype(np.float32),
        "bias": random.normal(size=3).astype(np.float32),
        "class_names": NAMES,
        "model": "runs/mine",
        "model_identity": model.image_identity(),
        "measured": measured,
    }
    return Head(**{**values, **changes})


def test_a_head_comes_back_from_its_file(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    head = head_of(tiny_pretrained)
    again = Head.load(head.save(tmp_path / "new" / "head.safetensors"))
    assert np.array_equal(again.weight, head.weight)
    assert np.array_equal(again.bias, head.bias)
    assert again != head  # and no error of arrays that are compared
    assert (again.class_names, again.model, again.measured) == (NAMES, "runs/mine", head.measured)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["head.safetensors"]


def test_classify_gives_the_softmax_of_its_logits(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    head = head_of(tiny_pretrained)
    pictures = [encode_picture(number, (40, 30)) for number in range(3)]
    file = head.save(tmp_path / "head.safetensors")
    found = tiny_pretrained.classify(pictures, head=file)
    logits = tiny_pretrained.encode_image(pictures) @ head.weight.T + head.bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for own, row in zip(found, shares, strict=True):
        assert own == pytest.approx(dict(zip(NAMES, row.tolist(), strict=True)), rel=1e-4)
        assert list(own.values()) == sorted(own.values(), reverse=True)
    assert tiny_pretrained.classify(pictures, head=str(file)) == tiny_pretrained.classify(pictures, head=head) == found


def test_a_head_of_another_model_or_width_is_refused(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    import torch

    picture = encode_picture(0)
    file = head_of(tiny_pretrained).save(tmp_path / "head.safetensors")
    other = build_tiny_pretrained()
    assert other.classify(picture, head=file)  # the same weights, opened again
    saved = other.save_pretrained(tmp_path / "bundle", card="")
    assert PretrainedModel.from_pretrained(saved).to("cpu").classify(picture, head=file)
    with torch.no_grad():
        next(iter(other.model.text_encoder.parameters())).add_(0.1)
    assert other.classify(picture, head=file)  # texts have no part in it
    with torch.no_grad():
        next(iter(other.model.image_head.parameters())).add_(0.1)
    wide = head_of(tiny_pretrained, weight=np.zeros((3, 7), np.float32))
    for model, head, reason in (
        (other, file, r"head\.safetensors: was learned on runs/mine, and not on .* as it is now; learn it again"),
        (tiny_pretrained, wide, "head: was learned on runs/mine, whose embeddings have 7 numbers and not 16"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            model.classify(picture, head=head)
        assert "\n" not in str(caught.value)
        assert "--keep-head" in str(caught.value)


def test_a_head_and_class_names_are_one_too_many(tiny_pretrained: PretrainedModel) -> None:
    head, picture = head_of(tiny_pretrained), encode_picture(0)
    with pytest.raises(UserError, match="a head has its own classes"):
        tiny_pretrained.classify(picture, ["cat", "dog"], head=head)
    with pytest.raises(UserError, match="a head has its own classes"):
        tiny_pretrained.classify(picture, head=head, template="a {}")
    with pytest.raises(UserError, match="give class_names, such as"):
        tiny_pretrained.classify(picture)
    wrong: Any = ["cat", "dog"]
    with pytest.raises(UserError, match=r"head: is .*; give a file of pocketclip evaluate --keep-head, or a Head"):
        tiny_pretrained.classify(picture, head=wrong)


def written(described: Any, **tensors: Any) -> bytes:
    weights = {"weight": np.zeros((2, 4), np.float32), "bias": np.zeros(2, np.float32), **tensors}
    return save(weights, {"kind": KIND, "head": json.dumps(described)})


DESCRIBED = {"class_names": ["a", "b"], "model": "m", "model_identity": "x", "measured": None}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut off"),
        (b"text", "cut off"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "cut off"),
        (written(DESCRIBED)[:-4], "no head that can be read"),
        (written(DESCRIBED)[:60], "cut off"),
        (save({"weight": np.zeros((2, 4), np.float32)}), "weights of something else"),
        (written(DESCRIBED, weight=np.zeros((2, 4))), "F64"),
        (written(DESCRIBED, more=np.zeros(2, np.float32)), "more"),
        (written(DESCRIBED, weight=np.zeros((3, 4), np.float32)), "do not fit 2 class names"),
        (written(DESCRIBED, bias=np.zeros((2, 1), np.float32)), "do not fit 2 class names"),
        (written(DESCRIBED, bias=np.array([0, np.nan], np.float32)), "not finite"),
        (written({**DESCRIBED, "class_names": ["a", "a"]}), "none twice"),
        (written({**DESCRIBED, "class_names": [1, 2]}), "class names are none"),
        (written({**DESCRIBED, "class_names": "ab"}), "class names are none"),
        (written({**DESCRIBED, "measured": {"kind": "cost"}}), "measured: name"),
        (written({"class_names": ["a", "b"]}), "measured"),
        (written([]), "no head that can be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",  # safetensors writes metadata in any order
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        Head.load(path)
    assert str(caught.value).startswith(f"{path}: no head that can be read (")
    assert "\n" not in str(caught.value)


def test_a_missing_or_a_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such head of a model"):
        Head.load(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"no head that can be read \(it is a folder\); learn it again"):
        Head.load(tmp_path)
    with (tmp_path / "huge.safetensors").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="a head has at most"):
        Head.load(tmp_path / "huge.safetensors")


def test_nothing_but_a_head_is_overwritten(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    check_place(tmp_path / "new.safetensors")
    check_place(head_of(tiny_pretrained).save(tmp_path / "head.safetensors"))
    weights = tiny_pretrained.save_pretrained(tmp_path / "bundle", card="") / "model.safetensors"
    with pytest.raises(UserError, match=r"model\.safetensors: is there, and is no head; choose another name"):
        check_place(weights)
    with pytest.raises(UserError, match="bundle: is there, and is no head; choose another name"):
        check_place(tmp_path / "bundle")
    with pytest.raises(UserError, match=r"Cannot write .*below\.safetensors: .*choose another place with --keep-head"):
        check_place(weights / "below.safetensors")  # told before the probe, and not after it
