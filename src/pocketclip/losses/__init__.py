"""Losses as pure functions of features; `pocketclip.objectives` names, weighs and configures them."""

from pocketclip.losses.affinity import affinity_loss
from pocketclip.losses.clip import clip_loss
from pocketclip.losses.feature import feature_loss
from pocketclip.losses.gradient import contrastive_gradients, gradient_loss
from pocketclip.losses.interactive import interactive_loss
from pocketclip.losses.multi_positive import multi_positive_loss, positive_pairs
from pocketclip.losses.sigmoid import sigmoid_loss
from pocketclip.losses.soft_target import soft_target_loss
from pocketclip.losses.target import target_contrast_loss, target_distance_loss, target_logits_loss

__all__ = [
    "affinity_loss",
    "clip_loss",
    "contrastive_gradients",
    "feature_loss",
    "gradient_loss",
    "interactive_loss",
    "multi_positive_loss",
    "positive_pairs",
    "sigmoid_loss",
    "soft_target_loss",
    "target_contrast_loss",
    "target_distance_loss",
    "target_logits_loss",
]
