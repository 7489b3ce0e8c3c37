"""Hugging Face text towers: pooling, padding, long batches, frozen layers, and where weights come from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.models.text.config import HuggingFaceTextEncoderConfig
from pocketclip.models.text.huggingface import TEXTS_A_PASS, HuggingFaceTextEncoder
from pocketclip.models.text.huggingface_folder import find_architecture
from pocketclip.tokenizer import train_tokenizer

Batch = tuple[Tensor, Tensor]
POOLINGS = ("mean", "cls", "eot")
TINY = {"vocab_size": 90, "max_position_embeddings": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {**TINY, "hidden_size": 32, "intermediate_size": 64}
FAMILIES: dict[str, dict[str, object]] = {
    "bert": WIDE,
    "distilbert": {"vocab_size": 90, "max_position_embeddings": 20, "n_layers": 2, "n_heads": 2, "dim": 32},
    "electra": {**WIDE, "embedding_size": 16},
    "deberta-v2": WIDE,
    "clip_text_model": {**WIDE, "bos_token_id": 1, "eos_token_id": 2},
    "roberta": WIDE,
    "mpnet": WIDE,
    "gpt2": {"vocab_size": 90, "n_positions": 20, "n_layer": 2, "n_head": 2, "n_embd": 32, "bos_token_id": 1},
}


def settings(**changes: object) -> HuggingFaceTextEncoderConfig:
    return HuggingFaceTextEncoderConfig.parse(
        {"name": "tiny-bert", "pretrained": "none", "context_length": 16, **changes}, place="text_encoder"
    )


def build(*, vocabulary_size: int | None = 90, **changes: object) -> HuggingFaceTextEncoder:
    torch.manual_seed(0)
    return settings(**changes).build(vocabulary_size=vocabulary_size).eval()


def family(name: str, **changes: object) -> HuggingFaceTextEncoder:
    architecture = {"model_type": name, **FAMILIES[name]}
    return build(vocabulary_size=None, name=name, architecture=architecture, **changes)


def texts(lengths: list[int], length: int | None = None) -> Batch:
    """Random ids, each text padded with 0."""
    random = torch.Generator().manual_seed(0)
    tokens = torch.zeros(len(lengths), length or max(lengths), dtype=torch.int64)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, count in enumerate(lengths):
        tokens[row, :count] = torch.randint(3, 90, (count,), generator=random)
        mask[row, :count] = True
    return tokens, mask


def pool_slowly(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    rows = []
    for text, used in zip(states, mask, strict=True):
        kept = [token for token, is_token in zip(text, used, strict=True) if is_token]
        rows.append({"mean": sum(kept) / len(kept), "cls": kept[0], "eot": kept[-1]}[pooling])
    return torch.stack(rows)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_equals_a_slow_loop(pooling: str) -> None:
    encoder = build(pooling=pooling)
    tokens, mask = texts([5, 1, 9, 3])
    with torch.no_grad():
        states = encoder.tower(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(encoder(tokens, mask), pool_slowly(states, mask, pooling))
    assert encoder.feature_dim == 32


@pytest.mark.parametrize("pooling", POOLINGS)
def test_joined_layers_come_before_the_last_and_are_pooled_alike(pooling: str) -> None:
    encoder = build(pooling=pooling, joined_layers=[1, 0])
    tokens, mask = texts([5, 2, 9])
    with torch.no_grad():
        output = encoder.tower(input_ids=tokens, attention_mask=mask.long(), output_hidden_states=True)
        layers = [output.hidden_states[1], output.hidden_states[0], output.last_hidden_state]
        expected = torch.cat([pool_slowly(states, mask, pooling) for states in layers], dim=1)
        torch.testing.assert_close(encoder(tokens, mask), expected)
    assert encoder.feature_dim == 96


def test_layer_0_is_the_word_embeddings() -> None:
    encoder = build(joined_layers=[0])
    tokens, mask = texts([4])
    with torch.no_grad():
        embedded = encoder.tower.embeddings(tokens)
        torch.testing.assert_close(encoder(tokens, mask)[:, :32], embedded.mean(dim=1))


@pytest.mark.parametrize("layers", [[2], [-1], [0, 5]])
def test_a_layer_that_is_not_there_names_the_known_ones(layers: list[int]) -> None:
    with pytest.raises(UserError, match=r"joined_layers: this tower has layers 0 to 1 \(got \("):
        build(joined_layers=layers)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", FAMILIES)
def test_padding_changes_nothing(name: str, pooling: str) -> None:
    encoder = family(name, pooling=pooling, joined_layers=[0])
    lengths = [5, 1, 9, 3]
    tokens, mask = texts(lengths, length=16)
    filled = torch.where(mask, tokens, torch.full_like(tokens, 7))  # whatever stands in the padding
    with torch.no_grad():
        padded = encoder(tokens, mask)
        alone = [encoder(tokens[i : i + 1, :n], mask[i : i + 1, :n]) for i, n in enumerate(lengths)]
        torch.testing.assert_close(encoder(filled, mask), padded, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(padded, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("count", [TEXTS_A_PASS, TEXTS_A_PASS + 1, 2 * TEXTS_A_PASS + 9])
def test_a_long_batch_gives_the_features_and_gradients_of_single_texts(count: int, pooling: str) -> None:
    encoder = build(pooling=pooling, joined_layers=[0]).double()
    random = torch.Generator().manual_seed(1)
    tokens, mask = texts(torch.randint(1, 15, (count,), generator=random).tolist(), length=16)
    directions = torch.randn(count, encoder.feature_dim, dtype=torch.float64, generator=random)

    def gradients(features: Tensor) -> dict[str, Tensor]:
        encoder.zero_grad()
        (features * directions).sum().backward()
        named = encoder.named_parameters()
        return {name: value.grad.clone() for name, value in named if value.grad is not None}

    together = encoder(tokens, mask)
    singles = torch.cat([encoder(tokens[i : i + 1], mask[i : i + 1]) for i in range(count)])
    torch.testing.assert_close(together, singles, rtol=1e-9, atol=1e-12)
    actual, expected = gradients(together), gradients(singles)
    assert actual.keys() == expected.keys()
    assert {name for name, _ in encoder.named_parameters()} == actual.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-8, atol=1e-11, msg=name)


def test_a_long_batch_of_equal_texts_gives_equal_rows() -> None:
    tokens, mask = texts([4])
    with torch.no_grad():
        rows = build()(tokens.expand(200, -1), mask.expand(200, -1))
    torch.testing.assert_close(rows, rows[:1].expand(200, -1))


def test_there_is_no_pooler_to_count() -> None:
    assert not [name for name, _ in build().named_parameters() if "pooler" in name]


def test_frozen_layers_are_the_embeddings_and_the_first_layers() -> None:
    encoder = build(frozen_layers=2)
    frozen = {id(value) for value in encoder.frozen_parameters}
    for name, value in encoder.named_parameters():
        assert (id(value) in frozen) == name.startswith(("tower.embeddings.", "tower.encoder.layer.0.")), name


def test_frozen_layers_behave_as_in_inference() -> None:
    encoder = build(frozen_layers=2, joined_layers=[0, 1])
    tokens, mask = texts([9, 4])
    with torch.no_grad():
        calm, training = encoder(tokens, mask), encoder.train()(tokens, mask)
    torch.testing.assert_close(training[:, :64], calm[:, :64])
    assert not torch.allclose(training[:, 64:], calm[:, 64:])  # the layer that is trained has dropout
    encoder.eval()
    assert not any(module.training for module in encoder.modules())


def test_more_frozen_layers_than_there_are_is_an_error() -> None:
    with pytest.raises(UserError, match=r"frozen_layers: this tower has embeddings and 2 layers \(got 3\)"):
        build(frozen_layers=3)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_familys_leading_layers_can_be_frozen(name: str) -> None:
    encoder = family(name, frozen_layers=1)
    table = encoder.tower.get_input_embeddings().weight
    assert any(value is table for value in encoder.frozen_parameters)
    assert sum(value.numel() for value in encoder.frozen_parameters) < sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_of_the_longest_length_a_tower_accepts_passes(name: str) -> None:
    longest = 20
    try:
        encoder = family(name, context_length=longest)
    except UserError:
        longest = 18
        encoder = family(name, context_length=longest)
    assert encoder(*texts([longest, 3])).shape == (2, 32)


def test_a_context_longer_than_the_tower_allows_names_the_limit() -> None:
    with pytest.raises(UserError, match=r"context_length: tiny-bert takes at most 128 tokens \(got 129\)"):
        build(context_length=129)


def test_a_tower_is_rebuilt_from_what_it_says_of_itself() -> None:
    for name in FAMILIES:
        encoder = family(name)
        architecture = json.loads(json.dumps(encoder.architecture))
        again = build(vocabulary_size=None, name="whatever", architecture=architecture)
        again.load_state_dict(encoder.state_dict())
        assert torch.equal(again(*texts([6, 2])), encoder(*texts([6, 2]))), name


def test_an_unknown_architecture_is_a_users_error() -> None:
    with pytest.raises(UserError, match=r"mine: not an architecture that transformers can build"):
        build(name="mine", architecture={"model_type": "brt"})


def test_a_tower_that_needs_more_than_one_text_is_refused_when_built() -> None:
    architecture = {"model_type": "t5", "vocab_size": 90, "d_model": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16}
    with pytest.raises(UserError, match="t5"):
        build(vocabulary_size=None, name="t5", architecture=architecture)


def test_a_name_that_is_found_nowhere_says_what_works_without_a_hub() -> None:
    with pytest.raises(UserError, match=r"tiny-brt: the hub did not answer .*package \(all-MiniLM-L6-v2\), a folder"):
        build(name="tiny-brt")


def save(model: Any, folder: Path, **options: object) -> Path:
    model.save_pretrained(folder, **options)
    tokenizer = train_tokenizer(["a red circle", "a blue star"], vocabulary_size=60, context_length=16)
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    return folder


def bert(kind: str = "BertModel") -> Any:
    torch.manual_seed(3)
    return getattr(transformers, kind)(transformers.BertConfig(**WIDE)).eval()


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
@pytest.mark.parametrize("shards", [False, True])
def test_a_folder_saved_by_transformers_is_read(kind: str, shards: bool, tmp_path: Path) -> None:
    model = bert(kind)
    folder = save(model, tmp_path / "saved", **({"max_shard_size": "20KB"} if shards else {}))
    assert (len(list(folder.glob("*.safetensors"))) > 1) == shards
    encoder = build(name="anything", pretrained=str(folder), vocabulary_size=None, pooling="cls")
    tokens, mask = texts([6, 3])
    with torch.no_grad():
        states = model.base_model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(encoder(tokens, mask), states[:, 0])


def test_the_norms_of_the_oldest_files_are_found(tmp_path: Path) -> None:
    model = bert()
    folder = save(model, tmp_path / "saved")
    old = {}
    for name, value in model.state_dict().items():
        if "LayerNorm" in name:
            name = name.replace("weight", "gamma").replace("bias", "beta")
        old[f"bert.{name}"] = value.clone()
    from safetensors.torch import save_file

    save_file(old, folder / "model.safetensors")
    encoder = build(pretrained=str(folder), vocabulary_size=None)
    for name, value in encoder.tower.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_the_folders_tokenizer_belongs_to_the_model(tmp_path: Path) -> None:
    config = settings(pretrained=str(save(bert(), tmp_path / "saved")), context_length=5)
    tokenizer = config.build_tokenizer()
    expected = train_tokenizer(["a red circle", "a blue star"], vocabulary_size=60, context_length=5)
    assert tokenizer.to_json() == expected.to_json()
    assert tokenizer.encode(["a red circle and a blue star"])[0].shape == (1, 5)


def test_a_tokenizer_file_can_be_named(tmp_path: Path) -> None:
    folder = save(bert(), tmp_path / "saved")
    tokenizer = settings(tokenizer=str(folder / "tokenizer.json")).build_tokenizer()
    assert tokenizer.context_length == 16
    with pytest.raises(UserError, match=r"none\.json: no such tokenizer file"):
        settings(tokenizer=str(tmp_path / "none.json")).build_tokenizer()


def test_berts_vocabulary_comes_without_a_hub() -> None:
    tokenizer = settings(tokenizer="bert").build_tokenizer()
    assert tokenizer.vocabulary_size == 30522
    tokens, _ = tokenizer.encode(["two dogs play in the snow"])
    assert tokens.tolist() == [[101, 2048, 6077, 2377, 1999, 1996, 4586, 102]]  # of bert-base-uncased
    assert settings(name="all-MiniLM-L6-v2").build_tokenizer().to_json() == tokenizer.to_json()


def test_a_tokenizer_that_only_the_hub_has_says_so() -> None:
    with pytest.raises(UserError, match=r"tiny-bert: the hub did not answer .*none with tokenizer: bert or captions"):
        settings().build_tokenizer()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"config\.json: missing; .*save_pretrained writes"),
        ("model.safetensors", r"saved: no \.safetensors weights here"),
    ],
)
def test_a_folder_without_a_part_names_it(missing: str, message: str, tmp_path: Path) -> None:
    folder = save(bert(), tmp_path / "saved")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=message):
        build(pretrained=str(folder))


def test_a_folder_with_weights_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = save(bert(), tmp_path / "saved")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"saved: the weights do not fit this tower; the file lacks encoder\.layer\.2"):
        build(pretrained=str(folder), vocabulary_size=None)


def test_a_folder_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match=r"/no/such: no such folder; pretrained takes hub, package, none or a folder"):
        build(pretrained="/no/such")


def test_an_architecture_is_found_by_name_without_a_hub() -> None:
    assert find_architecture("tiny-bert", "none")["hidden_size"] == 32
    assert find_architecture("distilbert-base-uncased", "hub")["model_type"] == "distilbert"


def test_the_packaged_tower_gives_the_similarities_its_makers_publish() -> None:
    config = HuggingFaceTextEncoderConfig(name="all-MiniLM-L6-v2", pretrained="package")
    encoder, tokenizer = config.build().eval(), config.build_tokenizer()
    food = ["A man is eating food.", "A man is eating a piece of bread."]
    horse = ["A man is riding a horse.", "A man is riding a white horse on an enclosed ground."]
    tokens, mask = tokenizer.encode([*food, *horse])
    with torch.no_grad():
        rows = torch.nn.functional.normalize(encoder(torch.from_numpy(tokens), torch.from_numpy(mask)), dim=1)
    assert float(rows[0] @ rows[1]) == pytest.approx(0.7553, abs=2e-4)
    assert float(rows[2] @ rows[3]) == pytest.approx(0.7369, abs=2e-4)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta"])
def test_the_first_layers_alone_give_the_states_behind_them(name: str) -> None:
    whole, first = family(name), family(name, num_layers=1)
    names = first.state_dict().keys()
    first.load_state_dict({key: value for key, value in whole.state_dict().items() if key in names})
    first.give_tokens()
    tokens, mask = texts([5, 2, 7])
    with torch.no_grad():
        states = whole.tower(input_ids=tokens, attention_mask=mask.long(), output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(first(tokens, mask), states)
    with pytest.raises(UserError, match=r"num_layers: .* has 2 layers \(got 3\)"):
        family(name, num_layers=3)
