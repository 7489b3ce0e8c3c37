"""What an index says of itself in `index.json`, and the command that makes it again."""

import json
import operator
import os
import re
import shlex
from pathlib import Path

from pydantic import Field

from pocketclip.config import Config
from pocketclip.errors import UserError

VERSION = 3
"""Of an index's files: of one with corrections. Without them it is of version 2, which earlier versions read."""
LASTING_PLACES = 2
"""Version 1 kept places as they were typed, and no fingerprint of its model."""
_LIBRARY = re.compile(r"[\w-]{2,}:")


class IndexConfig(Config):
    """The content of `index.json`."""

    format_version: int = LASTING_PLACES
    model: str
    """What made the embeddings: a bundle, whose relative path starts at the index's folder, or `LIBRARY:NAME`."""
    model_fingerprint: str = ""
    """Changes with the model's weights and settings; empty where it is not known."""
    source: str
    """As it was typed in the folder `typed_in`; words for people where that is empty."""
    typed_in: str = ""
    written_to: str = ""
    """The index's own folder at that time: pictures and model are found from it when all have moved together."""
    num_images: int
    embed_dim: int
    date: str
    hubs: str = Field(default="", exclude_if=operator.not_)
    """`Hubs.digest` of the bank by which scores are corrected; empty where there was none."""

    @classmethod
    def read(cls, path: Path) -> "IndexConfig":
        """Read `index.json`.

        Raises:
            UserError: it is damaged, or of a later version.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: damaged ({error}). Index again: pocketclip index SOURCE --model MODEL") from error
        version = values.get("format_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise UserError(f"{path}: of version {version}, and this pocketclip reads up to {VERSION}; update it.")
        return cls.parse(values, place=str(path))

    def model_of(self, folder: Path) -> Path | str:
        """What encodes queries of the index in a folder: a bundle's folder, or the name of another library's model."""
        if _LIBRARY.match(self.model):
            return self.model
        ways = [Path(os.path.normpath(Path(start) / self.model)) for start in (folder, self.written_to)]
        return next((way for way in ways if way.exists()), ways[0])

    def again(self, folder: Path, *, source_is_gone: bool = False) -> str:
        """The command that makes the index in a folder again, from any folder; what is not known is in capitals."""
        known = self.typed_in and not source_is_gone
        elsewhere = known and self.typed_in != str(Path.cwd())
        model = self.model_of(folder)
        there = "MODEL" if isinstance(model, Path) and not model.exists() else str(model)
        words = [
            *("--model", os.path.abspath(there) if isinstance(model, Path) and there != "MODEL" else there),  # noqa: PTH100
            *("--out", str(folder.absolute() if elsewhere else folder)),
        ]
        command = f"pocketclip index {shlex.quote(self.source) if known else 'SOURCE'} {shlex.join(words)}"
        return f"cd {shlex.quote(self.typed_in)} && {command}" if elsewhere else command


def written_model(model: Path | str, folder: Path) -> str:
    """What `IndexConfig.model` keeps of a model: of a bundle the way from the index's folder."""
    if isinstance(model, str):
        return model
    way = os.path.relpath(model, folder)
    return f"./{way}" if _LIBRARY.match(way) else way  # which no library's name looks like
