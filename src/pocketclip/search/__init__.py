"""Finding images by sentence in a stored index; nothing here imports torch."""

from pocketclip.search.index import Hit, Index, Item

__all__ = ["Hit", "Index", "Item"]
