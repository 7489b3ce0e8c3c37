"""Encoding without training: order, number types, folded batch norms, fingerprints."""

import copy
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.features.encode import encode_texts
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import Precision
from pocketclip.models.running.runner import Runner, cast_weights, module_fingerprint, project, round_keeping_sums, unit

CAPTIONS = [
    "a red circle",
    "small",
    "a large blue star and a small red square and a large red circle",
    "two stars",
    "a small blue square",
]


@pytest.fixture
def model(tiny_pretrained: PretrainedModel) -> DualEncoder:
    """The tiny model with batch norms that have seen something."""
    random = torch.Generator().manual_seed(0)
    for module in tiny_pretrained.model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=random))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=random))
    return tiny_pretrained.model.eval()


def runner(model: DualEncoder, precision: Precision = "float32", *, heads: bool = True) -> Runner:
    return Runner(model, device=torch.device("cpu"), precision=precision, image_size=32, heads=heads)


def pixels(count: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def plain_images(model: DualEncoder, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        embedded = model.encode_image(torch.from_numpy(images).permute(0, 3, 1, 2))
    rows: npt.NDArray[np.float32] = nn.functional.normalize(embedded, dim=1).numpy()
    return rows


def test_folded_batch_norms_change_nothing_but_the_rounding(model: DualEncoder) -> None:
    encoding = runner(model)
    np.testing.assert_allclose(encoding.encode_images(pixels(5)), plain_images(model, pixels(5)), atol=1e-5)
    assert not [module for module in encoding.encoder("image").modules() if isinstance(module, nn.BatchNorm2d)]


def test_a_tower_made_by_its_first_batch_gives_the_bits_of_one_made_before(model: DualEncoder) -> None:
    first, before = runner(model, "bfloat16"), runner(model, "bfloat16")
    _ = before.encoder("image")
    assert np.array_equal(first.encode_images(pixels(5)), before.encode_images(pixels(5)))


def test_texts_are_those_of_the_plain_model(model: DualEncoder, tiny_pretrained: PretrainedModel) -> None:
    tokens, mask = tiny_pretrained.tokenizer.encode(CAPTIONS)
    with torch.no_grad():
        expected = unit(model.encode_text(torch.from_numpy(tokens), torch.from_numpy(mask)))
    np.testing.assert_allclose(runner(model).encode_tokens(tokens, mask), expected, atol=1e-6)


def test_rows_come_in_the_order_of_the_batch(model: DualEncoder) -> None:
    images, encoding = pixels(6), runner(model)
    rows, order = encoding.encode_images(images), np.array([4, 0, 5, 1, 3, 2])
    np.testing.assert_allclose(encoding.encode_images(images[order]), rows[order], atol=1e-6)
    alone = np.concatenate([encoding.encode_images(images[number : number + 1]) for number in range(6)])
    np.testing.assert_allclose(rows, alone, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 128])
def test_captions_sorted_by_length_give_the_same_rows(
    batch_size: int, model: DualEncoder, tiny_pretrained: PretrainedModel
) -> None:
    tokenizer, encoding = tiny_pretrained.tokenizer, runner(model)
    alone = np.concatenate([encoding.encode_tokens(*tokenizer.encode([caption])) for caption in CAPTIONS])
    repeated = [*CAPTIONS, CAPTIONS[0]]
    rows = encode_texts(repeated, encoding.encode_tokens, tokenizer, batch_size=batch_size)
    np.testing.assert_allclose(rows, alone[[0, 1, 2, 3, 4, 0]], atol=1e-5)


def test_bfloat16_stays_close_to_float32(model: DualEncoder, tiny_pretrained: PretrainedModel) -> None:
    full, fast = runner(model), runner(model, "bfloat16")
    tokens, mask = tiny_pretrained.tokenizer.encode(CAPTIONS)
    for one, other in (
        (full.encode_images(pixels(8)), fast.encode_images(pixels(8))),
        (full.encode_tokens(tokens, mask), fast.encode_tokens(tokens, mask)),
    ):
        assert one.dtype == other.dtype == np.float32
        assert not np.array_equal(one, other)
        assert (one * other).sum(axis=1).min() > 0.999
    stored = {m.weight.dtype for m in fast.encoder("text").modules() if isinstance(m, nn.Linear)}
    assert stored == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_model_itself_is_left_as_it_is(precision: Precision, model: DualEncoder) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    encoding = runner(model, precision)
    encoding.encode_images(pixels(2))
    encoding.encode_tokens(np.ones((2, 3), np.int64), np.ones((2, 3), np.bool_))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_towers_are_a_snapshot_of_their_first_use(model: DualEncoder) -> None:
    encoding = runner(model)
    rows = encoding.encode_images(pixels(2))
    with torch.no_grad():
        for value in model.image_encoder.parameters():
            value.zero_()
    assert np.array_equal(encoding.encode_images(pixels(2)), rows)


def test_without_heads_the_towers_features_come_out_and_project_to_the_same(
    model: DualEncoder, tiny_pretrained: PretrainedModel
) -> None:
    tokens, mask = tiny_pretrained.tokenizer.encode(CAPTIONS)
    towers, whole = runner(model, heads=False), runner(model)
    images, texts = towers.encode_images(pixels(5)), towers.encode_tokens(tokens, mask)
    assert images.shape == (5, model.image_encoder.feature_dim)
    assert texts.shape == (5, model.text_encoder.feature_dim)
    projected = project(model.image_head, images, towers.device), project(model.text_head, texts, towers.device)
    np.testing.assert_allclose(projected[0], whole.encode_images(pixels(5)), atol=1e-6)
    np.testing.assert_allclose(projected[1], whole.encode_tokens(tokens, mask), atol=1e-6)


def test_features_are_projected_block_by_block_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    head, features = nn.Linear(6, 4), np.random.default_rng(0).normal(size=(7, 6)).astype(np.float16)
    whole = project(head, features, torch.device("cpu"))
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    monkeypatch.setattr("pocketclip.models.running.runner.PROJECTED_A_CALL", 3)
    rows = np.array([6, 0, 3, 3, 1])
    np.testing.assert_allclose(project(head, features, torch.device("cpu"), rows), whole[rows], atol=1e-6)
    assert project(head, features[:0], torch.device("cpu")).shape == (0, 4)


def test_threads_that_come_first_share_one_tower(model: DualEncoder) -> None:
    encoding = runner(model)
    with ThreadPoolExecutor(4) as pool:
        towers = list(pool.map(lambda number: (encoding.encoder("image"), encoding.encoder("text")), range(8)))
    assert len({id(image) for image, _ in towers}) == len({id(text) for _, text in towers}) == 1


def test_dropout_is_off_even_after_training(model: DualEncoder) -> None:
    encoding = runner(model.train())
    tokens, mask = np.ones((2, 3), np.int64), np.ones((2, 3), np.bool_)
    assert np.array_equal(encoding.encode_tokens(tokens, mask), encoding.encode_tokens(tokens, mask))


def test_pixels_may_be_a_view(model: DualEncoder) -> None:
    images = pixels(4)
    flipped = images[:, :, ::-1]
    np.testing.assert_array_equal(runner(model).encode_images(flipped), runner(model).encode_images(flipped.copy()))


def test_nothing_keeps_a_runner_that_was_used(model: DualEncoder, tiny_pretrained: PretrainedModel) -> None:
    """A study trains many models in one process; whatever keeps a runner keeps its model."""
    used = runner(copy.deepcopy(model))
    used.encode_images(pixels(2))
    used.encode_tokens(*tiny_pretrained.tokenizer.encode(CAPTIONS))
    used.plan(num_images=3, num_texts=3)
    left = weakref.ref(used), weakref.ref(used.model)
    del used
    gc.collect()
    assert [ref() for ref in left] == [None, None]


def test_unit_rows_have_length_1_in_float32() -> None:
    rows = unit(torch.tensor([[3.0, 4.0], [0.0, 1e-3]], dtype=torch.bfloat16))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert rows[0] == pytest.approx([0.6, 0.8])


def test_a_fingerprint_is_that_of_every_weight_buffer_and_setting() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    first = module_fingerprint(module, ("mean", 3))
    assert module_fingerprint(copy.deepcopy(module), ("mean", 3)) == first
    others = {module_fingerprint(module, ("cls", 3)), module_fingerprint(module.half(), ("mean", 3))}
    module.float()
    for value in module.state_dict().values():
        value.flatten()[0] += 1
        others.add(module_fingerprint(module, ("mean", 3)))
    assert len(others) == 2 + 7
    assert first not in others


def test_rounded_filters_keep_their_sums_and_stay_within_two_roundings() -> None:
    filters = (
        torch.randn(64, 1, 5, 5, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-3, 2, 64)[:, None, None, None]
    )
    rounded, plain = round_keeping_sums(filters).float(), filters.bfloat16().float()
    largest = filters.abs().amax((1, 2, 3))
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert ((rounded - filters).abs().amax((1, 2, 3)) <= 2**-7 * largest).all()
    error, plain_error = ((values - filters).sum((1, 2, 3)).abs() / largest for values in (rounded, plain))
    assert error.max() < plain_error.mean() / 2


def test_depthwise_filters_answer_smooth_pictures_more_exactly_than_plainly_rounded_ones() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(32, 32, 5, groups=32)
    images = nn.functional.interpolate(torch.rand(4, 32, 4, 4), (32, 32), mode="bilinear")
    plain, ours = copy.deepcopy(convolution), nn.Sequential(copy.deepcopy(convolution))
    plain.weight.data = plain.weight.bfloat16().float()
    cast_weights(ours)
    assert ours[0].weight.dtype == torch.bfloat16
    assert ours[0].bias.dtype == torch.float32
    with torch.no_grad():
        expected = convolution(images)
        plain_error, error = ((module(images) - expected).abs().mean() for module in (plain, ours.float()))
    assert error < plain_error / 3
