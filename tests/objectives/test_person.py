"""Person search: each term alone, sums with teachers, and that chunks and ranks learn what one pass would."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip import distributed
from pocketclip.errors import UserError
from pocketclip.losses.clip import clip_loss
from pocketclip.losses.multi_positive import multi_positive_loss
from pocketclip.losses.sdm import sdm_loss
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.objectives.config import ContrastiveObjectiveConfig, DistillationObjectiveConfig, PersonObjectiveConfig
from pocketclip.objectives.person import PersonObjective
from pocketclip.objectives.person_terms import PersonSizes
from pocketclip.objectives.uninformed import uninformed_loss
from pocketclip.train.gradient_cache import chunked_backward
from pocketclip.train.parallel import Alone, Replicated, Sharded
from pocketclip.train.step import train_step
from pocketclip.types import NOT_HIDDEN, Features, ImageTextBatch, MaskedTexts
from processes import run_ranks
from taught import make_taught

WORDS, LENGTH = 13, 6
MASKED = {"kind": "masked_language", "num_layers": 1, "width": 8, "num_heads": 2, "weight": 0.5}
TERMS: dict[str, list[dict[str, Any]]] = {
    "contrastive": [{"kind": "contrastive"}],
    "multi_positive": [{"kind": "multi_positive", "weight": 2.0}],
    "sdm": [{"kind": "sdm", "temperature": 0.2}],
    "identity": [{"kind": "identity"}],
    "masked_language": [{"kind": "contrastive"}, MASKED],
    "all": [{"kind": kind} for kind in ("contrastive", "multi_positive", "sdm", "identity")] + [MASKED],
}
PEOPLE = [0, 1, 2, 0, 3, 1, 1, 0, 4]


class Pictures(ImageTower):
    feature_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 12)

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images).tanh()

    def with_places(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = self(images)
        return feature, torch.stack([feature, feature.flip(1)], dim=1)


class Words(TextTower):
    feature_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 12)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.word_states(tokens, mask).mean(1)

    def word_states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.embed(tokens).sin() * mask[..., None]


def config(terms: str) -> PersonObjectiveConfig:
    return PersonObjectiveConfig.parse({"terms": TERMS[terms]}, place="test")


def make(terms: str, captions: int = 1) -> tuple[DualEncoder, PersonObjective, ImageTextBatch]:
    torch.manual_seed(0)
    model = DualEncoder(Pictures(), Words(), nn.Linear(12, 4), nn.Linear(12, 4))
    objective, count = config(terms).build(embed_dim=4, sizes=PersonSizes(5, WORDS, 12, 12)), len(PEOPLE)
    texts = count * captions
    tokens = torch.randint(1, WORDS, (texts, LENGTH))
    hidden = torch.full_like(tokens, NOT_HIDDEN)
    hidden[:, 2] = tokens[:, 2]
    hidden[::3, 4] = tokens[::3, 4]
    batch = ImageTextBatch(
        images=torch.randn(count, 6),
        tokens=tokens,
        token_mask=torch.arange(LENGTH) < torch.randint(5, LENGTH + 1, (texts, 1)),
        image_ids=torch.arange(count),
        caption_ids=torch.arange(texts),
        identity_ids=torch.tensor(PEOPLE),
        masked=MaskedTexts(tokens.where(hidden == NOT_HIDDEN, 0), hidden)
        if terms in ("masked_language", "all")
        else None,
    )
    return model, objective, batch


def unit(features: Features) -> tuple[Tensor, Tensor]:
    return F.normalize(features.image, dim=1), F.normalize(features.text, dim=1)


def test_each_term_stands_for_its_loss_with_its_weight() -> None:
    model, objective, batch = make("all")
    features, ids = model(batch), torch.tensor(PEOPLE)
    losses, sides = objective(features, batch), unit(features)
    assert list(losses) == ["contrastive", "multi_positive", "sdm", "identity", "masked_language"]
    torch.testing.assert_close(losses["contrastive"], clip_loss(*sides, features.logit_scale))
    same = ids[:, None] == ids
    torch.testing.assert_close(losses["multi_positive"], multi_positive_loss(*sides, features.logit_scale, same))
    torch.testing.assert_close(losses["sdm"], sdm_loss(*sides, 50.0, ids, ids))
    classifier = objective.learned["identity"]
    both = [F.cross_entropy(classifier(side), ids) for side in (features.image, features.text)]
    torch.testing.assert_close(losses["identity"], sum(both) / 2)
    logits, words = objective.learned["masked_language"](features.words, batch.token_mask, batch.masked.hidden)
    torch.testing.assert_close(losses["masked_language"], 0.5 * F.cross_entropy(logits, words))
    weighted = make("multi_positive")[1](features, batch)
    torch.testing.assert_close(weighted["multi_positive"], 2 * losses["multi_positive"])


def test_several_captions_are_as_many_batches() -> None:
    model, objective, batch = make("all", captions=2)
    features = model(batch)
    losses = objective(features, batch)
    parts = [objective(features.with_caption(number, 2), batch.with_caption(number)) for number in range(2)]
    for name, value in losses.items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


def test_infonce_alone_is_the_contrastive_objective() -> None:
    model, objective, batch = make("contrastive")
    features = model(batch)
    expected = ContrastiveObjectiveConfig().losses(features, batch)["clip"]
    torch.testing.assert_close(objective(features, batch)["contrastive"], expected)


def test_terms_of_distillation_are_what_they_are_without_the_others() -> None:
    taught = [{"kind": "affinity", "weight": 3.0}, {"kind": "feature"}]
    features, batch = make_taught()
    batch = replace(batch, identity_ids=torch.tensor([0, 1, 0, 2]))
    widths = [teacher.image.shape[1] for teacher in batch.teachers]
    both = PersonObjectiveConfig.parse({"terms": [*taught, {"kind": "sdm"}]}, place="test")
    assert (both.needs.teachers, config("all").needs.teachers) == ("captions", "none")
    dim = features.image.shape[1]
    torch.manual_seed(0)
    alone = DistillationObjectiveConfig.parse({"terms": taught}, place="test").build(
        embed_dim=dim, teacher_widths=widths
    )
    torch.manual_seed(0)
    joined = both.build(embed_dim=dim, teacher_widths=widths, sizes=PersonSizes(3))
    alone, joined = alone.double(), joined.double()
    found = joined(features, batch)
    assert set(found) == {"affinity", "feature", "sdm"}
    for name, value in alone(features, batch).items():
        torch.testing.assert_close(found[name], value)


def gradients(model: nn.Module, objective: nn.Module) -> dict[str, Tensor]:
    both = nn.ModuleList([model, objective])
    return {name: value.grad.clone() for name, value in both.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("chunk", [1, 4, 9])
@pytest.mark.parametrize("captions", [1, 2])
@pytest.mark.parametrize("terms", TERMS)
def test_chunks_give_the_gradient_of_the_whole(terms: str, captions: int, chunk: int) -> None:
    model, objective, batch = make(terms, captions)
    whole, whole_objective = copy.deepcopy(model), copy.deepcopy(objective)
    torch.stack(list(whole_objective(whole(batch), batch).values())).sum().backward()
    chunked_backward(model, objective, batch, chunk_size=chunk, autocast=nullcontext)
    expected, actual = gradients(whole, whole_objective), gradients(model, objective)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name], value, rtol=1e-3, atol=5e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def curve(rank: int, terms: str, way: str, chunk_size: int | None) -> list[float]:
    """The sum of the losses over some steps; the ranks' shares are of different size."""
    model, objective, whole = make(terms)
    parallel = {"alone": Alone, "replicated": Replicated, "sharded": Sharded}[way](model)
    shares = (5, 4) if distributed.world_size() == 2 else (9,)
    start = sum(shares[:rank])
    stop = start + shares[rank]
    assert whole.identity_ids is not None
    part = replace(whole.pairs(start, stop), identity_ids=whole.identity_ids[start:stop], shares=shares)
    optimizer = torch.optim.SGD([*parallel.model.parameters(), *objective.parameters()], lr=0.05)
    values = []
    for _ in range(5):
        scalars = train_step(
            parallel, objective, part, optimizer, autocast=nullcontext, max_grad_norm=1.0, chunk_size=chunk_size
        )
        shared = scalars["loss"].clone()
        distributed.average_in_place([shared])
        values.append(float(shared))
    return values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("terms", "way", "chunk_size"),
    [
        *((terms, "replicated", None) for terms in TERMS),
        ("all", "replicated", 2),
        ("identity", "sharded", None),
        ("sdm", "sharded", None),
    ],
)
def test_ranks_follow_the_curve_of_one_process(terms: str, way: str, chunk_size: int | None) -> None:
    expected = curve(0, terms, "alone", None)
    assert expected[-1] < expected[0]
    for actual in run_ranks(curve, 2, terms, way, chunk_size):
        assert actual == pytest.approx(expected, rel=2e-4)


def test_hidden_words_are_refused_where_weights_are_spread() -> None:
    model, _, batch = make("masked_language")
    sharded = object.__new__(Sharded)
    sharded.model = model
    with pytest.raises(UserError, match=r"masked_language does not go with --fsdp"):
        Sharded.forward(sharded, batch)


def test_it_is_measured_on_pairs_and_knows_where_it_starts() -> None:
    assert config("sdm").validation == ContrastiveObjectiveConfig()
    assert config("sdm").needs.task == "person_retrieval"
    assert uninformed_loss(config("sdm").validation, 8) is not None
    assert uninformed_loss(config("sdm"), 8) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": [{"kind": "sdm"}, {"kind": "sdm"}]}, "sdm is given twice"),
        ({"terms": [{"kind": "masked_language"}]}, "masked_language alone trains no embedding"),
        ({"terms": [{"kind": "sdm"}], "teacher_scales": [50]}, "teacher_scales has an effect with"),
        ({"terms": [{"kind": "masked_language", "width": 10, "num_heads": 4}]}, "no multiple of num_heads"),
        ({"terms": []}, "at least 1 item"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PersonObjectiveConfig.parse(settings, place="objective")
