"""How good a model is: one task a file in `tasks/`, each number with its interval and count."""

from pocketclip.evaluate.tasks.retrieval import mean_recall, retrieval_metrics, retrieval_ranks

__all__ = ["mean_recall", "retrieval_metrics", "retrieval_ranks"]
