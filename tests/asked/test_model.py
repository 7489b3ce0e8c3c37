import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

import teachers as tiny
from conftest import encode_picture
from pocketclip.asked import AskedModel, AskedModelConfig
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.asked.config import BundleModelConfig
from pocketclip.asked.open_clip import OpenClipModelConfig
from pocketclip.asked.transformers import HuggingFaceModelConfig
from pocketclip.config import explain
from pocketclip.distill import build_teachers
from pocketclip.errors import UserError
from pocketclip.preprocess import decode_image, resize_image

CPU = torch.device("cpu")
CAPTIONS = ["picture 1 caption 2", "scene 3", "picture 4 caption 4 picture 4 caption 4 picture 4 caption 4"]
open_clip_there = pytest.mark.skipif("not __import__('importlib').util.find_spec('open_clip')", reason="no open_clip")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers")
    tiny.write_bundle_teacher(folder / "bundle_one")
    tiny.write_huggingface_teacher(folder / "tiny.clip", "clip")
    tiny.write_huggingface_teacher(folder / "siglip", "siglip")
    return folder


def make(kind: str, places: Path, **more: Any) -> AskedModelConfig:
    if kind == "bundle":
        return BundleModelConfig(path=str(places / "bundle_one"), **more)
    if kind in ("clip", "siglip"):
        return HuggingFaceModelConfig(name=str(places / ("tiny.clip" if kind == "clip" else kind)), **more)
    pytest.importorskip("open_clip")
    name, file = tiny.write_open_clip_teacher(places / "open_clip")
    return OpenClipModelConfig(name=name, pretrained=str(file), **more)


KINDS = ["bundle", "clip", "siglip", "open_clip"]
EXPECTED = {  # name, width, pixels
    "bundle": ("bundle_one", 16, 32),
    "clip": ("tiny_clip", 12, 24),
    "siglip": ("siglip", 20, 24),
    "open_clip": ("tiny-open-clip-weights", 12, 16),
}


def pixels(teacher: AskedModel, count: int = 3) -> torch.Tensor:
    images = [decode_image(encode_picture(seed, (40, 30)), place="") for seed in range(count)]
    views = np.stack([resize_image(image, teacher.preprocess) for image in images])
    return torch.from_numpy(views).permute(0, 3, 1, 2)


def texts(teacher: AskedModel, captions: list[str] = CAPTIONS) -> torch.Tensor:
    tokens, mask = teacher.text_reader().encode(captions)
    assert tokens.dtype == np.int64
    assert mask.dtype == np.bool_
    assert tokens.shape == mask.shape
    return teacher.embed_tokens(torch.from_numpy(tokens), torch.from_numpy(mask))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_rows_of_unit_length_without_a_gradient(kind: str, places: Path) -> None:
    teacher = make(kind, places).build(CPU, "float32")
    assert (teacher.short_name, teacher.embed_dim, teacher.preprocess.image_size) == EXPECTED[kind]
    for rows in (teacher.embed_images(pixels(teacher)), texts(teacher)):
        assert (rows.shape, rows.dtype) == ((3, teacher.embed_dim), torch.float32)
        assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
        assert not rows.requires_grad
        assert not rows.is_inference()  # or a loss could not keep it
    assert len(teacher.fingerprint) == 16
    encode = teacher.text_reader().encode
    assert pickle.loads(pickle.dumps(encode))(CAPTIONS)[0].tolist() == encode(CAPTIONS)[0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_is_the_same_whatever_stands_beside_it(kind: str, places: Path) -> None:
    teacher = make(kind, places).build(CPU, "float32")
    together = texts(teacher)
    for number, caption in enumerate(CAPTIONS):
        assert torch.allclose(texts(teacher, [caption])[0], together[number], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_stays_close_to_float32(kind: str, places: Path) -> None:
    exact, fast = (make(kind, places).build(CPU, precision) for precision in ("float32", "bfloat16"))
    assert fast.fingerprint == exact.fingerprint
    for one, other in (
        (exact.embed_images(pixels(exact)), fast.embed_images(pixels(fast))),
        (texts(exact), texts(fast)),
    ):
        assert (one * other).sum(1).min() > 0.999


def test_a_bundle_teaches_what_it_embeds(places: Path) -> None:
    teacher = make("bundle", places).build(CPU, "float32")
    model = PretrainedModel.from_pretrained(places / "bundle_one").to("cpu", precision="float32")
    pictures = [encode_picture(seed, (40, 30)) for seed in range(3)]
    assert np.allclose(teacher.embed_images(pixels(teacher)).numpy(), model.encode_image(pictures), atol=1e-5)
    assert np.allclose(texts(teacher).numpy(), model.encode_text(CAPTIONS), atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_hugging_face_teacher_gives_what_its_library_does(kind: str, places: Path) -> None:
    import transformers

    folder = places / ("tiny.clip" if kind == "clip" else kind)
    teacher = make(kind, places).build(CPU, "float32")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = [decode_image(encode_picture(seed, (40, 30)), place="") for seed in range(3)]
    padding = {"padding": "max_length"} if kind == "siglip" else {"padding": True}
    inputs = tokenizer(CAPTIONS, max_length=10, truncation=True, return_tensors="pt", **padding)
    if kind == "siglip":
        inputs = {"input_ids": inputs["input_ids"]}
    else:
        inputs.pop("token_type_ids", None)
    with torch.no_grad():
        found = model.get_image_features(**processor(images=images, return_tensors="pt")).pooler_output
        named = model.get_text_features(**inputs).pooler_output
    assert (torch.nn.functional.normalize(found) * teacher.embed_images(pixels(teacher))).sum(1).min() > 0.999
    assert torch.allclose(torch.nn.functional.normalize(named), texts(teacher), atol=1e-5)


@open_clip_there
def test_an_open_clip_teacher_gives_what_its_library_does(places: Path) -> None:
    import open_clip

    teacher = make("open_clip", places).build(CPU, "float32")
    name, file = tiny.write_open_clip_teacher(places / "open_clip")
    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=str(file))
    images = [decode_image(encode_picture(seed, (40, 30)), place="") for seed in range(3)]
    with torch.no_grad():
        found = model.eval().encode_image(torch.stack([transform(image) for image in images]), normalize=True)
        named = model.encode_text(open_clip.get_tokenizer(name)(CAPTIONS), normalize=True)
    assert (found * teacher.embed_images(pixels(teacher))).sum(1).min() > 0.999
    assert torch.allclose(named, texts(teacher), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_its_own_or_the_given_one(kind: str, places: Path) -> None:
    assert make(kind, places, scale=70).build(CPU, "float32").inverse_temperature == 70
    own = {"bundle": 1 / 0.07, "clip": 1 / 0.07, "siglip": 1.0, "open_clip": 1 / 0.07}[kind]
    assert make(kind, places).build(CPU, "float32").inverse_temperature == pytest.approx(own, rel=0.01)


def test_other_weights_give_another_fingerprint(tmp_path: Path) -> None:
    folders = [tiny.write_huggingface_teacher(tmp_path / f"{seed}" / "same", seed=seed) for seed in (0, 1)]
    built = build_teachers([HuggingFaceModelConfig(name=str(folder)) for folder in folders], CPU, "float32")
    assert built[0].fingerprint != built[1].fingerprint
    assert [teacher.short_name for teacher in built] == ["same", "same-2"]


# What may be wrong


@pytest.mark.parametrize(
    ("make_config", "reason"),
    [
        (lambda folder: BundleModelConfig(path=str(folder)), "no bundle here"),
        (lambda folder: HuggingFaceModelConfig(name=str(folder)), "Teacher huggingface .*: cannot be loaded"),
        (lambda folder: HuggingFaceModelConfig(name="nobody/nothing"), "Teacher huggingface nobody/nothing: cannot"),
    ],
)
def test_a_teacher_that_is_not_there_is_named(
    tmp_path: Path, make_config: Callable[[Path], AskedModelConfig], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        build_teachers([make_config(tmp_path)], CPU)


def test_another_type_of_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"Unknown type of teacher, that of .*, 'bert'\. Known: clip, siglip\."):
        build_teachers([HuggingFaceModelConfig(name=str(tmp_path))], CPU)


@open_clip_there
@pytest.mark.parametrize(
    ("name", "pretrained", "reason"),
    [
        ("ViT-L14", "openai", r"Unknown open_clip model 'ViT-L14'\. Did you mean 'ViT-L-14'\?"),
        ("ViT-L-14", "opanai", r"Unknown file or pretrained tag of .*'opanai'\. Did you mean 'openai'\?"),
        ("ViT-L-14", None, r"give pretrained a tag \(.*openai"),
    ],
)
def test_unknown_models_of_open_clip_are_named(name: str, pretrained: str | None, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        build_teachers([OpenClipModelConfig(name=name, pretrained=pretrained)], CPU)


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code from a checkpoint ran')",)


@open_clip_there
@pytest.mark.parametrize("content", ["pickle", "noise", "others"])
def test_checkpoints_are_read_without_running_code_and_have_to_fit(places: Path, tmp_path: Path, content: str) -> None:
    name, _ = tiny.write_open_clip_teacher(places / "open_clip")
    file = tmp_path / "weights.pt"
    if content == "noise":
        file.write_bytes(b"no weights")
    else:
        torch.save({"a": _Harmful()} if content == "pickle" else {"a": torch.zeros(2)}, file)
    with pytest.raises(UserError, match=r"Teacher open_clip tiny-open-clip, .*weights\.pt: cannot be loaded"):
        build_teachers([OpenClipModelConfig(name=name, pretrained=str(file))], CPU)


def test_without_open_clip_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UserError, match="pip install open-clip-torch"):
        build_teachers([OpenClipModelConfig(name="ViT-L-14", pretrained="openai")], CPU)


def test_an_unknown_kind_is_named() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as caught:
        TypeAdapter[Any](AskedModelConfig).validate_python({"kind": "openclip", "name": "x"})
    assert "Did you mean 'open_clip'?" in explain(caught.value, "recipe", AskedModelConfig)
