"""Carrying out a recipe from data to bundle."""

from pocketclip.run.train import Outcome, RunReporter, train

__all__ = ["Outcome", "RunReporter", "train"]
