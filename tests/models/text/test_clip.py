"""The text tower of CLIP and its hybrid with convolutions: against slow loops, whatever the padding, part by part."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pocketclip.errors import UserError
from pocketclip.models.text.clip import AttentionLayer, ClipTextEncoder
from pocketclip.models.text.config import ClipTextEncoderConfig
from pocketclip.models.text.feed_forward import QuickGELU
from pocketclip.models.text.mixer import ConvolutionLayer
from pocketclip.models.text.passes import TEXTS_A_PASS

SMALL = {"width": 16, "num_layers": 3, "num_heads": 2, "vocabulary_size": 60, "context_length": 12, "kernel_size": 5}
KINDS: dict[str, dict[str, Any]] = {
    "causal": {},
    "free": {"causal": False},
    "hybrid": {"causal": False, "convolution_layers": [0, 2]},
    "convolutions": {"causal": False, "convolution_layers": [0, 1, 2]},
    "padding seen": {"causal": False, "convolution_layers": [0, 2], "padding": "seen"},
}
POOLINGS = ("eot", "last", "mean")


def settings(**changes: object) -> ClipTextEncoderConfig:
    return ClipTextEncoderConfig.parse({**SMALL, **changes}, place="text_encoder")


def build(seed: int = 0, **changes: object) -> ClipTextEncoder:
    """A tower whose batch norms and scales are far from those of an untrained one, which do nothing."""
    torch.manual_seed(seed)
    return randomise(settings(**changes).build()).eval()


@torch.no_grad()
def randomise(tower: ClipTextEncoder) -> ClipTextEncoder:
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
        if isinstance(module, ConvolutionLayer):
            module.scale.uniform_(0.2, 1.0)
            module.mixer.scale.uniform_(0.2, 1.0)
    return tower


def texts(lengths: list[int], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Random ids that end with the highest, each text padded with 0."""
    random = torch.Generator().manual_seed(0)
    tokens = torch.zeros(len(lengths), length or max(lengths), dtype=torch.int64)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, count in enumerate(lengths):
        tokens[row, :count] = torch.randint(3, 58, (count,), generator=random)
        tokens[row, count - 1] = 59
        mask[row, :count] = True
    return tokens, mask


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_changes_nothing(kind: str, pooling: str) -> None:
    tower = build(**KINDS[kind], pooling=pooling)
    lengths = [5, 1, 9, 3]
    tokens, mask = texts(lengths, length=11)
    padded = tower(tokens, mask)
    filled = torch.where(mask, tokens, torch.full_like(tokens, 59))  # whatever stands in the padding
    torch.testing.assert_close(tower(filled, mask), padded)
    alone = [tower(tokens[i : i + 1, :n], mask[i : i + 1, :n]) for i, n in enumerate(lengths)]
    torch.testing.assert_close(padded, torch.cat(alone), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_padding_that_is_seen_counts_like_tokens_with_id_0() -> None:
    tower = build(**KINDS["padding seen"])
    tokens, mask = texts([5, 12, 3], length=12)
    everything = torch.ones_like(mask)
    free = build(**{**KINDS["padding seen"], "padding": "hidden"})
    free.load_state_dict(tower.state_dict())
    torch.testing.assert_close(tower(tokens[:, :12], mask), free(tokens, everything))
    assert not torch.allclose(tower(tokens, mask)[0], free(tokens, mask)[0], atol=1e-3)


def attend_slowly(layer: AttentionLayer, states: Tensor, count: int, *, causal: bool) -> Tensor:
    """One text of `count` tokens, a loop over heads and places."""
    width = states.shape[1]
    size = width // layer.num_heads
    normed = layer.attention_norm(states)
    query, key, value = (
        normed @ layer.query_key_value.weight[part * width : (part + 1) * width].T
        + layer.query_key_value.bias[part * width : (part + 1) * width]
        for part in range(3)
    )
    rows = []
    for place in range(count):
        last = place + 1 if causal else count
        heads = []
        for head in range(layer.num_heads):
            own = slice(head * size, (head + 1) * size)
            weights = (key[:last, own] @ query[place, own] / size**0.5).softmax(0)
            heads.append(weights @ value[:last, own])
        rows.append(torch.cat(heads))
    states = states + layer.attention_output(torch.stack(rows))
    hidden = layer.feed_forward.activation(layer.feed_forward.expand(layer.feed_forward_norm(states)))
    return states + layer.feed_forward.contract(hidden)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_attention_layers_equal_a_slow_loop(causal: bool, pooling: str) -> None:
    tower = build(causal=causal, pooling=pooling).double()
    tokens, mask = texts([5, 8, 1])
    expected = []
    for row, count in zip(tokens, mask.sum(1).tolist(), strict=True):
        states = tower.token_embedding.weight[row[:count]] + tower.position_embedding[:count]
        for layer in tower.layers:
            states = attend_slowly(layer, states, count, causal=causal)
        normed = tower.norm(states)
        expected.append(normed.mean(0) if pooling == "mean" else normed[count - 1])
    torch.testing.assert_close(tower(tokens, mask), torch.stack(expected))
    assert tower.feature_dim == 16


def test_eot_is_the_highest_id_wherever_it_stands() -> None:
    tower = build(pooling="eot")
    last = build(pooling="last")
    last.load_state_dict(tower.state_dict())
    tokens, mask = texts([6])
    tokens[0, 2] = 59
    with torch.no_grad():
        torch.testing.assert_close(tower(tokens, mask), last(tokens[:, :3], mask[:, :3]))


@torch.no_grad()
def test_quick_gelu() -> None:
    values = torch.linspace(-3, 3, 7)
    expected = torch.tensor([value * (1 / (1 + 2.718281828459045 ** (-1.702 * value))) for value in values.tolist()])
    torch.testing.assert_close(QuickGELU()(values), expected)
    assert not torch.allclose(build(activation="quick_gelu")(*texts([5])), build()(*texts([5])), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_batch_gives_the_features_and_gradients_of_single_texts(kind: str) -> None:
    tower = build(**KINDS[kind]).double()
    random = torch.Generator().manual_seed(1)
    count = TEXTS_A_PASS + 9
    tokens, mask = texts(torch.randint(1, 13, (count,), generator=random).tolist(), length=12)
    directions = torch.randn(count, 16, dtype=torch.float64, generator=random)

    def gradients(features: Tensor) -> dict[str, Tensor]:
        tower.zero_grad()
        (features * directions).sum().backward()
        return {name: value.grad.clone() for name, value in tower.named_parameters() if value.grad is not None}

    together = tower(tokens, mask)
    singles = torch.cat([tower(tokens[i : i + 1], mask[i : i + 1]) for i in range(count)])
    torch.testing.assert_close(together, singles, rtol=1e-9, atol=1e-12)
    actual, expected = gradients(together), gradients(singles)
    assert actual.keys() == expected.keys() == {name for name, _ in tower.named_parameters()}
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-8, atol=1e-11, msg=name)


@pytest.mark.parametrize("count", [4, TEXTS_A_PASS + 1])
def test_training_does_not_depend_on_the_padding_either(count: int) -> None:
    random = torch.Generator().manual_seed(1)
    tokens, mask = texts(torch.randint(2, 8, (count,), generator=random).tolist(), length=8)
    results = []
    for length in (8, 12):
        tower = build(**KINDS["hybrid"]).double().train()
        longer = [nn.functional.pad(values, (0, length - 8)) for values in (tokens, mask)]
        features = tower(*longer)
        features.square().sum().backward()
        gradients = [value.grad for value in tower.parameters()]
        results.append([features, *gradients, *tower.buffers()])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_a_text_without_tokens_is_a_number() -> None:
    for kind, changes in KINDS.items():
        tokens, mask = texts([4, 2])
        mask[1] = False
        assert build(**changes)(tokens, mask).isfinite().all(), kind


def test_frozen_layers_are_the_embeddings_and_the_first_layers() -> None:
    tower = build(**KINDS["hybrid"], frozen_layers=2)
    frozen = {id(value) for value in tower.frozen_parameters}
    for name, value in tower.named_parameters():
        expected = name.startswith(("token_embedding", "position_embedding", "layers.0."))
        assert (id(value) in frozen) == expected, name
    tower.train()
    assert not tower.layers[0].norm.training
    assert tower.layers[2].norm.training


def test_checkpointed_activations_give_the_same_gradients() -> None:
    plain, checkpointed = build(**KINDS["hybrid"]).train(), build(**KINDS["hybrid"]).train()
    checkpointed.checkpoint_activations()
    calls = [0]
    checkpointed.layers[1].register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    for tower in (plain, checkpointed):
        tower(*texts([5, 9, 2])).square().sum().backward()
    assert calls[0] == 2
    for (name, value), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(value.grad, other.grad, msg=name)


@pytest.mark.slow
def test_a_compiled_tower_gives_the_same_features() -> None:
    for changes in KINDS.values():
        plain, compiled = build(**changes), build(**changes)
        compiled.compile_for_training()
        for length in (5, 9):
            with torch.no_grad():
                torch.testing.assert_close(
                    compiled(*texts([length, 2])), plain(*texts([length, 2])), rtol=1e-3, atol=1e-3
                )


def test_a_tower_is_rebuilt_from_what_it_says_of_itself() -> None:
    for changes in KINDS.values():
        config = settings(**changes)
        tower = config.build(vocabulary_size=41)
        assert (tower.architecture["vocab_size"], tower.architecture["max_position_embeddings"]) == (41, 12)
        again = config.as_built(json.loads(json.dumps(tower.architecture))).build()
        again.load_state_dict(tower.state_dict())
        assert again.settings == tower.settings


def test_dropping_ids_that_do_not_occur_changes_no_bit() -> None:
    for kind in ("causal", "padding seen"):
        tower = build(**KINDS[kind])
        tokens, mask = texts([5, 9, 2])
        kept = sorted({*tokens.flatten().tolist(), *tower.needed_tokens()})
        new = torch.tensor([kept.index(token) for token in tokens.flatten().tolist()]).view_as(tokens)
        with torch.no_grad():
            before = tower(tokens, mask)
            tower.keep_tokens(kept)
            assert torch.equal(tower(new, mask), before)
        assert tower.architecture["vocab_size"] == tower.settings["vocabulary_size"] == len(kept)


def test_settings_differ_where_towers_do() -> None:
    towers = [settings(**changes).build() for changes in KINDS.values()]
    assert len({json.dumps(tower.settings) for tower in towers}) == len(KINDS)
    assert settings(tokenizer="x.json").build().settings == settings().build().settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 15}, r"width 15 should be a multiple of num_heads 2"),
        ({"kernel_size": 4}, r"kernel_size should be odd \(got 4\)"),
        ({"causal": False, "convolution_layers": [3]}, r"there are layers 0 to 2"),
        ({"convolution_layers": [0]}, r"look ahead, so causal should be false"),
        ({"padding": "seen"}, r"padding: seen has no effect on a causal tower"),
        ({"frozen_layers": 4}, r"frozen_layers: there are embeddings and 3 layers"),
        ({"tokenizer": "captions"}, r"pooling: eot knows the end of a text in CLIP's vocabulary only"),
        ({"vocabulary": "occurring", "tokenizer": "captions", "pooling": "last"}, r"vocabulary: occurring has no"),
    ],
)
def test_settings_that_do_not_fit_together(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(**changes)


@pytest.mark.parametrize(("attention", "millions"), [(6, 44.5), (4, 42.4), (2, 40.4), (1, 39.3), (0, 38.3)])
def test_the_published_ablation_of_convolutions_for_attention(attention: int, millions: float) -> None:
    """Six layers of width 512, with CLIP's projection to 512 as the model's text head."""
    convolutions = 6 - attention
    first = convolutions // 2
    chosen = [*range(first), *range(6 - convolutions + first, 6)]
    config = ClipTextEncoderConfig(num_layers=6, causal=False, convolution_layers=tuple(chosen))
    with torch.device("meta"):
        tower = config.build()
    count = sum(value.numel() for value in tower.parameters()) + 512 * 512
    assert sum(isinstance(layer, AttentionLayer) for layer in tower.layers) == attention
    assert round(count / 1e6, 1) == millions
