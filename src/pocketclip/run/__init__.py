"""Carrying out a recipe from data to bundle."""

from pocketclip.run.train import Outcome, train

__all__ = ["Outcome", "train"]
