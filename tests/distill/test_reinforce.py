from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import teachers as tiny
from conftest import encode_picture
from pocketclip.asked import AskedModel
from pocketclip.data.pictures.augment import AugmentConfig, draw_view, render_view, shortest_side
from pocketclip.data.pictures.decode import decode_picture
from pocketclip.data.sources.reinforced import ReinforcedSample
from pocketclip.distill import reinforce as reinforce_module
from pocketclip.distill.config import ReinforceConfig
from pocketclip.distill.reinforce import Reinforcer
from pocketclip.errors import UserError

Settings = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")


def opened(values: dict[str, Any]) -> Reinforcer:
    return Reinforcer(ReinforceConfig.parse(values, place="recipe"), CPU)


def made(reinforcer: Reinforcer, start: int = 0, stop: int = 8) -> tuple[list[ReinforcedSample], list[str]]:
    broken: list[str] = []
    return list(reinforcer.samples(start, stop, broken)), broken


def text_of(teacher: AskedModel, text: str) -> torch.Tensor:
    tokens, mask = teacher.text_reader().encode([text])
    return teacher.embed_tokens(torch.from_numpy(tokens), torch.from_numpy(mask))[0]


def test_every_row_is_what_each_teacher_says_of_that_view_or_caption(settings: Settings) -> None:
    """The slow way: one view, one caption and one teacher at a time."""
    reinforcer = opened(settings())
    samples, broken = made(reinforcer)
    assert (len(samples), broken) == (8, [])
    columns = reinforcer.manifest.columns
    augment = reinforcer.config.augment
    shortest = max(shortest_side(one.preprocess, augment) for one in reinforcer.teachers)
    for index, item in enumerate(samples):
        assert item.features.shape == (3 + 2, 16 + 12)
        assert item.sample == reinforcer.source[index]
        picture = decode_picture(item.sample.image, place="", shortest=shortest)
        for teacher, part in zip(reinforcer.teachers, columns, strict=True):
            for view in range(3):
                drawn = draw_view(augment, picture.size, [0, index, view])
                assert item.views[view] == drawn
                pixels = torch.from_numpy(render_view(picture, drawn, teacher.preprocess))[None].permute(0, 3, 1, 2)
                expected = teacher.embed_images(pixels)[0].numpy()
                assert np.allclose(item.features[view, part], expected, atol=1e-5)
            for number, caption in enumerate(item.sample.captions):
                assert np.allclose(item.features[3 + number, part], text_of(teacher, caption).numpy(), atol=1e-5)
            assert np.allclose(np.linalg.norm(item.features[:, part], axis=1), 1, atol=1e-5)


def test_teachers_of_one_size_share_pixels(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [tiny.write_huggingface_teacher(tmp_path / f"clip{seed}", seed=seed) for seed in range(2)]
    both = opened(settings(teachers=[{"kind": "huggingface", "name": str(clip)} for clip in clips]))
    rendered = []
    monkeypatch.setattr(reinforce_module, "render_view", lambda *given: rendered.append(1) or render_view(*given))
    together = made(both)[0]
    assert len(rendered) == 8 * 3
    for teacher, part in zip(both.config.teachers, both.manifest.columns, strict=True):
        alone = made(opened(settings(source=both.config.source, teachers=[teacher])))[0]
        for one, other in zip(alone, together, strict=True):
            assert np.array_equal(one.features, other.features[:, part])


def test_any_start_gives_the_same_samples(settings: Settings) -> None:
    values = settings()
    whole = made(opened(values))[0]
    parts = made(opened(values), 0, 3)[0] + made(opened(values), 3, 8)[0]
    for one, other in zip(whole, parts, strict=True):
        assert one.views == other.views
        assert np.allclose(one.features, other.features, atol=1e-6)


def test_the_number_of_threads_changes_no_bit(settings: Settings, models: Path) -> None:
    captioner = {"name": str(models / "blip"), "num_captions": 2, "max_tokens": 4}
    reinforcer, before = opened(settings(captioner=captioner)), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(made(reinforcer)[0])
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert (one.synthetic, one.views) == (other.synthetic, other.views)
        assert np.array_equal(one.features, other.features)


def test_equal_captions_are_encoded_once(
    settings: Settings, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(6, 2, "alike")
    for file in folder.glob("*.txt"):
        file.write_text("a dog\na dog runs\n")
    reinforcer = opened(settings(source=f"folder:{folder}"))
    asked: list[str] = []
    encode = Reinforcer._encode_batch
    monkeypatch.setattr(Reinforcer, "_encode_batch", lambda self, texts: asked.extend(texts) or encode(self, texts))
    samples, _ = made(reinforcer, 0, 6)
    assert asked == ["a dog", "a dog runs"]
    assert all(np.array_equal(item.features[3:], samples[0].features[3:]) for item in samples)


def test_synthetic_captions_are_rows_too(settings: Settings, models: Path) -> None:
    reinforcer = opened(settings(captioner={"name": str(models / "blip"), "num_captions": 2, "max_tokens": 6}))
    samples, _ = made(reinforcer)
    assert reinforcer.manifest.num_synthetic == 2
    assert reinforcer.manifest.captioner["num_captions"] == 2  # type: ignore[index]
    assert len({text for item in samples for text in item.synthetic}) > 4
    for item in samples:
        assert item.features.shape == (3 + 2 + len(item.synthetic), 28)
        for number, text in enumerate(item.synthetic):
            row = item.features[5 + number, reinforcer.manifest.columns[1]]
            assert np.allclose(row, text_of(reinforcer.teachers[1], text).numpy(), atol=1e-5)


def test_a_class_without_captions_gets_synthetic_ones(settings: Settings, models: Path, write_shard: Any) -> None:
    place = write_shard([("a.jpg", encode_picture()), ("a.cls", b"3"), ("b.jpg", encode_picture(1)), ("b.cls", b"1")])
    captioner = {"name": str(models / "blip"), "num_captions": 2, "max_tokens": 6}
    samples, broken = made(opened(settings(source=f"webdataset:{place}", captioner=captioner)), 0, 2)
    assert broken == []
    assert [item.sample.label for item in samples] == [3, 1]
    assert all(len(item.features) == 3 + len(item.synthetic) for item in samples)
    samples, broken = made(opened(settings(source=f"webdataset:{place}")), 0, 2)
    assert samples == []
    assert [message.rsplit(": ")[-1] for message in broken] == ["has no caption."] * 2


@pytest.mark.parametrize("with_captioner", [False, True])
def test_broken_pictures_are_left_out_and_named_once(
    settings: Settings, models: Path, make_folder: Callable[..., Path], with_captioner: bool
) -> None:
    folder = make_folder(6, 1, "some")
    (folder / "002.jpg").write_bytes(b"no picture")
    (folder / "004.txt").write_text("")
    captioner = {"name": str(models / "blip"), "num_captions": 1, "max_tokens": 6} if with_captioner else None
    samples, broken = made(opened(settings(source=f"folder:{folder}", captioner=captioner)), 0, 6)
    kept = ["000", "001", "003", "005"]
    assert [item.sample.key for item in samples] == (sorted([*kept, "004"]) if with_captioner else kept)
    assert [message for message in broken if "002.jpg: not a picture" in message]
    assert len(broken) == (1 if with_captioner else 2)


def test_a_silent_captioner_stops_with_its_name(settings: Settings, models: Path) -> None:
    reinforcer = opened(settings(captioner={"name": str(models / "silent")}))
    with pytest.raises(UserError, match=r"captioner\.name: .*silent wrote no caption for any of 8 pictures"):
        made(reinforcer)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"augment": {}}, "num_views above 1 needs something in augment that differs"),
        (
            {"augment": {"flip": "swap_sides"}},
            "augment.flip: swap_sides needs teachers' features of two texts",
        ),
        ({"teachers": []}, "teachers: .*at least 1"),
        (
            {"teachers": [{"kind": "bundel", "path": "x"}]},
            r"teachers\.0: Unknown kind .*mean 'bundle'",
        ),
        ({"num_view": 3}, "num_view: unknown key 'num_view'. Did you mean 'num_views'"),
        ({"dtype": "float32"}, "dtype: .*'bfloat16' or 'float16'"),
        ({"source": "fodler:x"}, "source: .*Did you mean 'folder'"),
    ],
)
def test_impossible_settings_are_named(settings: Settings, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"recipe: .*{reason}"):
        ReinforceConfig.parse(settings(**changes), place="recipe")


def test_one_view_may_be_the_centre(settings: Settings) -> None:
    config = ReinforceConfig.parse(settings(num_views=1, augment={}), place="recipe")
    assert config.augment == AugmentConfig()
    assert made(Reinforcer(config, CPU))[0][0].views[0].box is None


def test_no_images_are_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("")
    with pytest.raises(UserError):
        opened(settings(source=f"jsonl:{tmp_path / 'x.jsonl'}"))
