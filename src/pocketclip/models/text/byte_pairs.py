"""CLIP's tokenizer: lower-case byte pairs with 49,408 ids, from the file that CLIP and open_clip publish it in."""

import gzip
import importlib.util
from pathlib import Path

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel

from pocketclip.errors import UserError, first_line, pip_install, require
from pocketclip.tokenizer import Tokenizer

NUM_MERGES = 48_894
"""What is left of 49,152 ids without 256 bytes and two marks; the file holds more and CLIP reads no further."""
START, END = "<start_of_text>", "<end_of_text>"
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
REPAIRS = (
    ("[\u02bc\u2018-\u201b]", "'"),
    ("[\u201c-\u201f]", '"'),
    ("&(?:amp;)+", "&"),
    ("&quot;", '"'),
    ("&#0?39;|&apos;", "'"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    (r"&nbsp;|\s+", " "),
)
"""What is replaced before all else: quotes that lean, the commonest HTML entities, and white space."""
FILE = "bpe_simple_vocab_16e6.txt.gz"
HUB_NAME = "openai/clip-vit-base-patch32"


def clip_tokenizer(origin: str, *, context_length: int) -> Tokenizer:
    """CLIP's tokenizer, with at most `context_length` tokens a text.

    `clip` takes the byte pairs of the open_clip package where it is installed, else the hub's tokenizer; any other
    origin is a file of byte pairs as CLIP publishes it, gzipped.

    Raises:
        UserError: neither can be had, or the file is another.
    """
    if origin != "clip":
        return Tokenizer(read_byte_pairs(Path(origin)), context_length)
    package = importlib.util.find_spec("open_clip")
    if package is not None and package.origin is not None:
        return Tokenizer(read_byte_pairs(Path(package.origin).parent / FILE), context_length)
    hub = require("huggingface_hub", extra="train")
    try:
        path = Path(hub.hf_hub_download(HUB_NAME, "tokenizer.json"))
    except Exception as error:  # offline, or gated: the hub has a dozen types
        raise UserError(
            f"tokenizer: clip is in the open_clip package ({pip_install('open_clip_torch')}), which is not installed, "
            f"and the hub did not answer ({first_line(error)}). Other choices: captions, or a file."
        ) from error
    return Tokenizer.from_file(path, context_length)


def read_byte_pairs(path: Path) -> tokenizers.Tokenizer:
    """CLIP's tokenizer from its byte pairs, `bpe_simple_vocab_16e6.txt.gz`.

    Its ids are those of open_clip's SimpleTokenizer, except where that repairs a text further than `REPAIRS` does:
    characters that were once decoded wrongly, and the rarer HTML entities.

    Raises:
        UserError: no such file, or not that file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of byte pairs.")
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : NUM_MERGES + 1]
        merges = [(first, second) for first, second in (line.split() for line in lines)]
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a gzipped file of byte pairs ({first_line(error)}).") from error
    if len(merges) != NUM_MERGES:
        raise UserError(f"{path}: holds {len(merges)} byte pairs, and CLIP's vocabulary has {NUM_MERGES}.")
    letters = sorted(ByteLevel.alphabet())  # one for each byte, in the order of CLIP's first ids
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    core = tokenizers.Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=END))
    repairs = [normalizers.Replace(Regex(old), new) for old, new in REPAIRS]
    core.normalizer = normalizers.Sequence([normalizers.NFC(), *repairs, normalizers.Strip(), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    core.add_special_tokens([START, END])
    marks = [(START, vocabulary[START]), (END, vocabulary[END])]
    core.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=marks)
    return core
