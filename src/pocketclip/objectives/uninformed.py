"""What a batch costs a model that knows nothing: where a loss stands at first, or after a collapse."""

import math

import torch

from pocketclip.objectives.needs import MethodConfig
from pocketclip.types import Features, ImageTextBatch, LayerFeatures


@torch.no_grad()
def uninformed_loss(objective: MethodConfig, num_images: int, captions_per_image: int = 1) -> float | None:
    """The loss of a batch in which every image and every text has the same embedding.

    It is ln B for CLIP's softmax over B pairs; a loss with a bias is given the bias that suits best. None where it
    depends on what teachers or further views say, and of a single pair.
    """
    if objective.needs.asks_teachers or objective.needs.views > 1 or num_images < 2:
        return None
    image, text = torch.ones(num_images, 1), torch.ones(num_images * captions_per_image, 1)
    log_odds = -math.log(num_images - 1)  # of a match
    features = Features(
        image,
        text,
        logit_scale=torch.tensor(1.0),
        logit_bias=torch.tensor(log_odds - 1.0 if objective.needs.bias else 0.0),  # beside a cosine of 1
        layers=(LayerFeatures(image, text),),
        pair_logits=torch.zeros(num_images // 2),
    )
    batch = ImageTextBatch(
        images=image,
        tokens=text,
        token_mask=torch.ones(len(text), 0, dtype=torch.bool),
        image_ids=torch.arange(num_images),
        caption_ids=torch.arange(len(text)),
        labels=torch.arange(num_images // 2) % 2,
    )
    try:
        loss = float(sum(objective.build(embed_dim=1)(features, batch).values()))
    except Exception:  # one from another package may read what only a real batch has
        return None
    return loss if math.isfinite(loss) else None
