"""Pictures of people in a shard."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from conftest import encode_picture


def write_people(path: Path, people: Sequence[str | None], seed: int = 0) -> Path:
    """A shard of pictures, each with two captions about its person."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for index, name in enumerate(people):
            told = {"captions": [f"person {name} walks {index}", f"a view of {name}"]}
            told |= {"identity": name} if name else {}
            for member, data in (
                (f"{index:03}.jpg", encode_picture(100 * seed + index)),
                (f"{index:03}.json", json.dumps(told).encode()),
            ):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path
