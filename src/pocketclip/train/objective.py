"""What an objective may learn itself, such as maps to a teacher's width: it is trained and kept, never shipped."""

from typing import Any

import torch
from torch import nn

from pocketclip.types import Objective


def learned_parameters(objective: Objective) -> list[nn.Parameter]:
    """The parameters of an objective that is a module; none of a plain function."""
    return list(objective.parameters()) if isinstance(objective, nn.Module) else []


def objective_state(objective: Objective) -> dict[str, Any]:
    """What a checkpoint keeps of an objective."""
    return objective.state_dict() if isinstance(objective, nn.Module) else {}


def load_objective_state(objective: Objective, state: dict[str, Any]) -> None:
    """The inverse of `objective_state`."""
    if isinstance(objective, nn.Module):
        objective.load_state_dict(state)


def move_objective(objective: Objective, device: torch.device) -> None:
    """Bring an objective's parameters to the model's device, in training mode."""
    if isinstance(objective, nn.Module):
        objective.to(device).train()
