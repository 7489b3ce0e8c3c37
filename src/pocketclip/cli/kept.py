"""What Ctrl-C leaves behind, command by command, and how to go on."""

from collections.abc import Sequence

_NOTHING = "Nothing was written."
_AGAIN = "What is finished is kept; the same command goes on from there."
KEPT = {
    "quickstart": "What was encoded is kept in the cache; the same command begins again with it.",
    "train": "The run's folder is kept, and what was encoded in the cache; go on with the same command and --resume.",
    "fit": _AGAIN,
    "evaluate": _NOTHING,
    "compare": _NOTHING,
    "board": "No page was written; one that was there before is as it was.",
    "cost": _NOTHING,
    "plan": _NOTHING,
    "reinforce": _AGAIN,
    "study": "Finished runs are kept; go on with the same command and --resume.",
    "embed": _AGAIN,
    "hubs": "No bank was written; one that was there before is as it was.",
    "index": "No index was written; one that was there before is as it was.",
    "search": _NOTHING,
    "report": "No page was written; one that was there before is as it was.",
    "list": _NOTHING,
    "data convert": _AGAIN,
    "data inspect": _NOTHING,
    "data features": "What was encoded is kept in the cache; the same command goes on from there.",
    "data filter": _AGAIN,
    "data mix": _AGAIN,
    "demo retrieval": "No page was written; one that was there before is as it was.",
}


def going_on(words: Sequence[str]) -> str:
    """How to go on with training that was stopped."""
    name = next((word for word in words if not word.startswith("-")), "")
    return "the same command" if name == "fit" else "the same command and --resume"


def kept(words: Sequence[str]) -> str:
    """What to say when the command of these words is stopped between two steps."""
    names = [word for word in words if not word.startswith("-")]
    name = next((" ".join(names[:count]) for count in (2, 1) if " ".join(names[:count]) in KEPT), None)
    if name == "evaluate" and {"--suite", "--out"} <= {word.partition("=")[0] for word in words}:
        return f"Stopped. {_AGAIN}"
    return f"Stopped. {KEPT[name]}" if name else "Stopped."
