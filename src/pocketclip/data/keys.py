"""What names a sample: its key, and numbers that equal pictures and equal captions share."""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


def content_id(data: bytes) -> int:
    """63 bits of the hash of encoded bytes: equal for equal files, and for others with a chance of 1 in 10^19."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) >> 1


def caption_id(caption: str) -> int:
    """A 63-bit number, equal for captions that differ only in case and closing punctuation."""
    text = caption.lower().rstrip(" .!").encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def safe_key(text: str) -> str:
    """A key that is safe as a file name and as a WebDataset key: no dots, slashes or blanks."""
    return re.sub(r"[^\w-]", "_", text)[:200] or "_"


def unique_keys(texts: Sequence[str]) -> list[str]:
    """`safe_key` of each text, with a number behind repeated ones."""
    uses: dict[str, int] = {}
    keys: dict[str, None] = {}
    for text in texts:
        key = wanted = safe_key(text)
        while key in keys:  # more than once where a text already ends in a number
            uses[wanted] = uses.get(wanted, 1) + 1
            key = f"{wanted}-{uses[wanted]}"
        keys[key] = None
    return list(keys)


class PackedTexts:
    """Short texts one behind the other in one block of memory, where a million objects would be too many."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.data, self.ends = bytearray(), array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one behind the others."""
        self.data += text.encode(errors="surrogatepass")  # names of files need not be UTF-8
        self.ends.append(len(self.data))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> str:
        return self.data[self.ends[number] : self.ends[number + 1]].decode(errors="surrogatepass")

    def as_unique_keys(self) -> "PackedTexts":
        """`unique_keys` of safe keys; empty ones stay so. It takes an object a key only where two are alike."""
        hashes = np.fromiter((hash(key) for key in self if key), np.int64)
        if len(np.unique(hashes)) == len(hashes):
            return self
        unique = iter(unique_keys([key for key in self if key]))
        return PackedTexts(next(unique) if key else "" for key in self)
