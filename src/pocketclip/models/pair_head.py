"""Whether a sentence is true of two images, from the embeddings of the three."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.embedder import Floats, JudgePairs

COSINE_SCALE = 10.0
"""Brings the few tenths by which cosines differ to the size of the other numbers."""


class PairHead(nn.Module):
    """Compares the sentence with each image by the same layers, then judges what was found left and right.

    Both images pass the same layers because a sentence asks the same of each; only the judgement knows the sides. It
    is a function of directions: embeddings of any length give the same.
    """

    def __init__(self, embed_dim: int, hidden_width: int, dropout: float) -> None:
        super().__init__()
        self.compare = nn.Sequential(
            nn.Linear(3 * embed_dim + 1, hidden_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_width, hidden_width),
            nn.GELU(),
        )
        self.judge = nn.Sequential(
            nn.Linear(4 * hidden_width + embed_dim + 2, hidden_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_width, hidden_width),
            nn.GELU(),
            nn.Linear(hidden_width, 1),
        )

    def forward(self, image: Float[Tensor, "B D"], text: Float[Tensor, "B D"]) -> Float[Tensor, " P"]:
        """The logit of `true` for each of P = B / 2 examples: left image, right image, and their sentence for each."""
        images, texts = (F.normalize(part.float(), dim=1) * part.shape[1] ** 0.5 for part in (image, text))
        products = images * texts  # numbers of about 1, as the layers are made for; their mean is the cosine
        cosines = COSINE_SCALE * products.mean(dim=1, keepdim=True)
        compared = self.compare(torch.cat([images, texts, products, cosines], dim=1))
        left, right = compared[0::2], compared[1::2]
        both = [left, right, left * right, (left - right).abs(), texts[0::2], cosines[0::2], cosines[1::2]]
        logits: Tensor = self.judge(torch.cat(both, dim=1))
        return logits.squeeze(1)


def judge_of(head: nn.Module | None) -> JudgePairs | None:
    """A pair head as an embedder's `judge_pairs`, numpy in and out; None without one."""
    if head is None:
        return None

    @torch.inference_mode()
    def judge(images: Floats, texts: Floats) -> Floats:
        device = next(head.parameters()).device
        logits = head.eval()(*(torch.from_numpy(part).to(device) for part in (images, texts)))
        values: Floats = logits.float().cpu().numpy()
        return values

    return judge
