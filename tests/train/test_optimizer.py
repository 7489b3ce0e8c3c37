"""Parameter groups: a rate for each part, no decay for one-dimensional parameters, frozen parts left out."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import tiny_model_settings
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.image.config import ClipResNetEncoderConfig, TimmImageEncoderConfig
from pocketclip.models.text.config import ClipTextEncoderConfig
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.train import checkpoint
from pocketclip.train.optimizer import build_optimizer, embeddings_of
from pocketclip.train.rates import AdafactorConfig, AdamWConfig, LearningRates


def tiny_model(**changes: object) -> DualEncoder:
    settings = tiny_model_settings()
    for key, value in changes.items():
        part = dict(settings[key])  # type: ignore[call-overload]
        part.update(value)
        settings[key] = part
    return build_model(DualEncoderConfig.model_validate(settings), vocabulary_size=300)


def test_every_parameter_is_in_one_group_with_its_parts_rate() -> None:
    model = tiny_model()
    rates = LearningRates(heads=1e-3, image_encoder=1e-4, text_encoder=1e-5)
    optimizer = build_optimizer(model, AdamWConfig(weight_decay=0.3), rates)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        expected = {"image_encoder": 1e-4, "text_encoder": 1e-5}.get(part, 1e-3)
        assert rate_of[id(parameter)] == expected, name
        assert decay_of[id(parameter)] == (0.3 if parameter.ndim >= 2 else 0.0), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_part_without_a_rate_is_frozen() -> None:
    model = tiny_model()
    build_optimizer(model, AdamWConfig(), LearningRates(heads=1e-3))
    trainable = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"image_head", "text_head", "logit_scale"}


def test_frozen_layers_stay_out_and_in_inference_mode() -> None:
    model = tiny_model(image_encoder={"frozen_layers": 2}, text_encoder={"frozen_layers": 2})
    rates = LearningRates(heads=1e-3, image_encoder=1e-3, text_encoder=1e-3)
    optimizer = build_optimizer(model, AdamWConfig(), rates)
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert model.frozen_parameters()
    assert not inside & {id(p) for p in model.frozen_parameters()}
    assert not any(p.requires_grad for p in model.frozen_parameters())
    tower = model.text_encoder.tower
    frozen = {id(p) for p in [*tower.embeddings.parameters(), *tower.encoder.layer[0].parameters()]}
    assert frozen <= {id(p) for p in model.frozen_parameters()}
    assert id(next(tower.encoder.layer[1].parameters())) in inside
    model.train()
    assert not tower.embeddings.dropout.training
    assert tower.encoder.layer[1].output.dropout.training


@pytest.mark.parametrize("frozen", [0, 2])
def test_layers_near_the_input_go_at_a_smaller_rate(frozen: int) -> None:
    model = tiny_model(image_encoder={"frozen_layers": frozen}, text_encoder={"frozen_layers": frozen})
    rates = LearningRates(heads=1e-3, image_encoder=1e-4, text_encoder=1e-5, layer_decay=0.5)
    optimizer = build_optimizer(model, AdamWConfig(weight_decay=0.3), rates)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rate_of) == len(named)
    for name, parameter in named.items():
        if name.startswith("text_encoder.tower.embeddings"):
            expected = 1e-5 / 4
        elif name.startswith("text_encoder.tower.encoder.layer"):
            expected = 1e-5 / 2 ** (1 - int(name.split(".")[4]))
        elif name.startswith("image_encoder.tower"):
            continue  # by timm's groups, below
        else:
            expected = 1e-3
        assert rate_of[id(parameter)] == pytest.approx(expected), name
    by_layer = model.image_encoder.parameters_by_layer
    for number, layer in enumerate(reversed(by_layer)):
        trained = [rate_of[id(p)] for p in layer if p.requires_grad]
        assert trained == pytest.approx([1e-4 / 2**number] * len(trained))
    stem = model.image_encoder.tower.conv_stem.weight
    assert any(stem is p for p in by_layer[0])
    assert optimizer.param_groups[-1]["lr"] == 1e-3
    ends = {group["part"]: group["lr"] for group in optimizer.param_groups}  # what the log of a run shows
    assert ends == {"image_encoder": 1e-4, "text_encoder": 1e-5, "heads": 1e-3}


def test_layers_of_every_family_hold_each_parameter_once() -> None:
    text = build_clip_text()
    assert any(text.position_embedding is p for p in text.parameters_by_layer[0])
    assert any(text.norm.weight is p for p in text.parameters_by_layer[-1])
    assert len(text.parameters_by_layer) == 3
    resnet = ClipResNetEncoderConfig(width=8, num_blocks=(1, 1, 1, 1), image_size=32, pretrained="none").build()
    assert len(resnet.parameters_by_layer) == 5
    vit = TimmImageEncoderConfig(name="test_vit", pretrained="none", image_size=160).build()
    assert any(vit.tower.pos_embed is p for p in vit.parameters_by_layer[0])
    for tower in (text, resnet, vit):
        inside = [id(p) for layer in tower.parameters_by_layer for p in layer]
        assert sorted(inside) == sorted(id(p) for p in tower.parameters())


def build_clip_text() -> TextTower:
    return ClipTextEncoderConfig(width=16, num_layers=2, num_heads=2, vocabulary_size=50, context_length=8).build()


def test_a_layer_decay_is_no_rate_of_a_part() -> None:
    rates = LearningRates(heads=1e-3, text_encoder=1e-5, layer_decay=0.5)
    assert rates.trained == {"heads": 1e-3, "text_encoder": 1e-5}


def test_a_layer_decay_without_towers_has_no_effect() -> None:
    with pytest.raises(ValueError, match="layer_decay has an effect on towers only"):
        LearningRates(heads=1e-3, layer_decay=0.5)


def test_frozen_batch_norms_keep_their_statistics() -> None:
    model = tiny_model(image_encoder={"frozen_layers": 2})
    model.train()
    before = {name: value.clone() for name, value in model.image_encoder.named_buffers()}
    model.encode_image(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    changed = {name for name, value in model.image_encoder.named_buffers() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("tower.bn1", "tower.blocks.0")) for name in changed)
    assert any(name.startswith("tower.blocks.2") for name in changed)


def test_the_study_decays_every_parameter() -> None:
    optimizer = build_optimizer(
        tiny_model(), AdamWConfig(weight_decay=0.1, decay_one_dimensional=True), LearningRates(heads=1e-3)
    )
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


def reference_adafactor(
    weight: np.ndarray, gradients: list[np.ndarray], rates: list[float], peak: float, decay: float
) -> np.ndarray:
    """Big Vision's, slowly, in float64 but for the mean of the gradient."""
    rows, columns = np.zeros((len(weight), 1)), np.zeros((1, weight.shape[1]))
    mean = torch.zeros(weight.shape, dtype=torch.bfloat16)
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        beta = min(0.999, 1 - step**-0.8)
        rows = beta * rows + (1 - beta) * (gradient**2).mean(1, keepdims=True)
        columns = beta * columns + (1 - beta) * (gradient**2).mean(0, keepdims=True)
        update = gradient / np.sqrt(rows * columns / rows.mean())
        mean = mean.lerp(torch.from_numpy(update).to(torch.bfloat16), 0.1)
        weight = weight * (1 - decay * rate / peak) - rate * mean.double().numpy()
    return weight


def test_adafactor_is_big_visions() -> None:
    """A decay that follows the schedule and not the rate, and moments as means of rows and columns."""
    random = np.random.default_rng(0)
    gradients = list(random.normal(size=(5, 40, 48)))
    model = DualEncoder(WithClassToken(), Words(), nn.Linear(4, 4), nn.Linear(48, 40))
    own = model.text_head.weight
    start = own.detach().double().numpy().copy()
    optimizer = build_optimizer(model, AdafactorConfig(weight_decay=0.01), LearningRates(heads=0.02))
    rates = [0.01, 0.02, 0.02, 0.015, 0.005]
    for gradient, rate in zip(gradients, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        own.grad = torch.from_numpy(gradient).float()
        optimizer.step()
    expected = reference_adafactor(start, gradients, rates, 0.02, 0.01)
    np.testing.assert_allclose(own.detach().numpy(), expected, atol=2e-4)
    assert np.abs(expected - start).max() > 0.02
    state = optimizer.state[own]
    assert sum(value.numel() for name, value in state.items() if "sq" in name) == 40 + 48
    assert state["exp_avg"].dtype == torch.bfloat16


def test_adafactor_decays_matrices_only() -> None:
    model = tiny_model()
    optimizer = build_optimizer(model, AdafactorConfig(weight_decay=1e-4), LearningRates(heads=1e-3, text_encoder=1e-2))
    decay = {id(p): group["weight_decay"] * group["lr"] for group in optimizer.param_groups for p in group["params"]}
    tables = {id(parameter) for parameter in embeddings_of(model)}
    for name, parameter in model.named_parameters():
        if id(parameter) in decay:
            expected = 1e-4 if parameter.ndim >= 2 and id(parameter) not in tables else 0
            assert decay[id(parameter)] == pytest.approx(expected), name


def test_adafactor_goes_on_exactly_from_a_checkpoint(tmp_path: Path) -> None:
    def steps(optimizer: torch.optim.Optimizer, model: DualEncoder, numbers: range) -> None:
        for number in numbers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    noise = torch.Generator().manual_seed(number)
                    parameter.grad = torch.randn(parameter.shape, generator=noise)
            optimizer.step()

    rates = LearningRates(heads=1e-2, text_encoder=1e-2)
    torch.manual_seed(0)
    whole = tiny_model()
    cut = copy.deepcopy(whole)
    optimizers = [build_optimizer(model, AdafactorConfig(), rates) for model in (whole, cut)]
    steps(optimizers[0], whole, range(6))
    steps(optimizers[1], cut, range(3))
    checkpoint.save_atomically(tmp_path / "x.pt", optimizers[1].state_dict())
    again = build_optimizer(cut, AdafactorConfig(), rates)
    again.load_state_dict(checkpoint.load(tmp_path / "x.pt"))
    steps(again, cut, range(3, 6))
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.equal(one, other)


def test_embeddings_can_be_left_out_of_the_decay() -> None:
    text, image = Words(), WithClassToken()
    tower = text.layers
    model = DualEncoder(image, text, nn.Linear(4, 4), nn.Linear(4, 4))
    rates = LearningRates(heads=0.1, image_encoder=0.1, text_encoder=0.1)
    for decays in (True, False):
        optimizer = build_optimizer(model, AdamWConfig(weight_decay=0.5, decay_embeddings=decays), rates)
        decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert len(decay) == len(list(model.parameters()))
        assert decay[id(tower[0].weight)] == decay[id(image.cls_token)] == (0.5 if decays else 0)
        assert decay[id(tower[1].weight)] == decay[id(image.blocks.weight)] == 0.5
        assert decay[id(tower[1].bias)] == 0


class Words(TextTower):
    """A table of words and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4))


class WithClassToken(ImageTower):
    """Says, as timm's towers do, what should not decay."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = nn.Linear(4, 4)

    def no_weight_decay(self) -> set[str]:
        return {"cls_token", "pos_embed"}
