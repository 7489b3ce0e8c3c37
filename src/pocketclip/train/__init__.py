"""One training loop for every method; methods differ in their objective, their data and their model."""

from pocketclip.train.config import TrainConfig
from pocketclip.train.loop import Batches, Evaluate, Teach, Trainer
from pocketclip.train.progress import Progress

__all__ = ["Batches", "Evaluate", "Progress", "Teach", "TrainConfig", "Trainer"]
