"""Distillation by any sum of named terms, from live teachers or from what reinforced data hold of them."""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.losses.contrastive import ContrastiveInputs
from pocketclip.objectives.teachers import Lesson, caption_by_caption, clamp_scales, learned_scales, with_scales
from pocketclip.objectives.terms import Term
from pocketclip.types import Features, ImageTextBatch


class DistillationObjective(nn.Module):
    """Weighted terms, caption by caption (see `caption_by_caption`); each is a mean over the teachers.

    The terms that compare embeddings share a learned linear map into each teacher's space, one for images and one for
    texts; a single teacher of the student's width needs none, while several have no space in common.
    References: TinyCLIP, https://arxiv.org/abs/2309.12314; CLIP-KD, https://arxiv.org/abs/2307.12732.
    """

    def __init__(
        self, terms: Sequence[Term], scales: Sequence[float] | None, embed_dim: int | None, widths: Sequence[int]
    ) -> None:
        super().__init__()
        self.terms, self.scales = terms, scales
        self.image_maps, self.text_maps = nn.ModuleList(), nn.ModuleList()
        if any(term.in_the_teachers_width for term in self.terms):
            assert embed_dim is not None
            same_space = list(widths) == [embed_dim]
            for width in widths:
                for maps in (self.image_maps, self.text_maps):
                    maps.append(nn.Identity() if same_space else nn.Linear(embed_dim, width, bias=False))
        has_scales = any(term.has_scale for term in self.terms)
        self.log_scales = learned_scales(len(widths)) if has_scales else None

    def forward(self, features: Features, batch: ImageTextBatch) -> Mapping[str, Tensor]:
        """Each term by its kind, and the same of the synthetic captions as `KIND_synthetic`."""
        assert batch.teachers, "the batch carries no teacher features"
        clamp_scales([] if self.log_scales is None else [self.log_scales])
        return {
            name: term.weight * value
            for term in self.terms
            for name, value in caption_by_caption(term.kind, partial(self._term, term), features, batch).items()
        }

    def _term(self, term: Term, features: Features, batch: ImageTextBatch) -> Tensor:
        inputs = ContrastiveInputs.of(features, batch)
        scales = [None] * len(batch.teachers) if self.log_scales is None else self.log_scales.exp()
        lessons = [
            Lesson(teacher, partial(self._in_width_of, number, inputs), scales[number])
            for number, teacher in enumerate(with_scales(batch.teachers, self.scales))
        ]
        return term.value(inputs, lessons)

    def _in_width_of(self, teacher: int, inputs: ContrastiveInputs) -> tuple[Tensor, Tensor]:
        """The student's embeddings in a teacher's space, of length 1."""
        image, text = inputs.unit
        return F.normalize(self.image_maps[teacher](image), dim=1), F.normalize(self.text_maps[teacher](text), dim=1)
