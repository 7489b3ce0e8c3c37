"""Person search: terms that know who is on each picture, beside those that learn from teachers."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.objectives.distillation import DistillationObjective
from pocketclip.objectives.person_terms import PersonSizes, PersonTerm
from pocketclip.objectives.teachers import caption_by_caption
from pocketclip.objectives.terms import ContrastiveTermConfig, Term
from pocketclip.types import Features, ImageTextBatch


class PersonObjective(nn.Module):
    """Weighted terms, caption by caption (see `caption_by_caption`); those of distillation as they are elsewhere.

    References: IRRA, https://arxiv.org/abs/2303.12501; CLIP-KD, https://arxiv.org/abs/2307.12732.
    """

    def __init__(
        self,
        terms: Sequence[PersonTerm | Term],
        scales: Sequence[float] | None,
        embed_dim: int,
        widths: Sequence[int],
        sizes: PersonSizes,
    ) -> None:
        super().__init__()
        self.own = [term for term in terms if isinstance(term, PersonTerm | ContrastiveTermConfig)]
        taught = [term for term in terms if isinstance(term, Term) and not isinstance(term, ContrastiveTermConfig)]
        learned = {term.kind: term.learned(embed_dim, sizes) for term in terms if isinstance(term, PersonTerm)}
        self.learned = nn.ModuleDict({kind: module for kind, module in learned.items() if module is not None})
        self.taught = DistillationObjective(taught, scales, embed_dim, widths) if taught else None

    def forward(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """Each term by its kind, and the same of the synthetic captions as `KIND_synthetic`."""
        losses: dict[str, Tensor] = {}
        with torch.autocast(features.image.device.type, enabled=False):
            for term in self.own:
                found = caption_by_caption(term.kind, partial(self._value, term), features, batch)
                losses |= {name: term.weight * value for name, value in found.items()}
        return losses if self.taught is None else {**losses, **self.taught(features, batch)}

    def _value(self, term: PersonTerm | ContrastiveTermConfig, features: Features, batch: ImageTextBatch) -> Tensor:
        if isinstance(term, ContrastiveTermConfig):
            return term.value(ContrastiveInputs.of(features, batch), ())
        return term.value(features, batch, dict(self.learned.items()).get(term.kind))
