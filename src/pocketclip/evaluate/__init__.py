"""How good a model is: one protocol a file, each number with its interval and count."""

from pocketclip.evaluate.retrieval import mean_recall, retrieval_metrics, retrieval_ranks

__all__ = ["mean_recall", "retrieval_metrics", "retrieval_ranks"]
