"""Who drawn pedestrians are: what they look like and wear, and in which split they are."""

import random
import zlib
from dataclasses import astuple, dataclass
from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
COLOURS = {
    "black": (32, 32, 36), "white": (238, 238, 234), "gray": (128, 130, 134), "red": (200, 32, 38),
    "blue": (34, 64, 176), "light blue": (128, 184, 230), "green": (34, 132, 62), "yellow": (242, 206, 48),
    "orange": (238, 122, 30), "purple": (116, 52, 156), "pink": (242, 148, 184), "brown": (110, 68, 40),
    "beige": (214, 190, 148),
}  # fmt: skip
SHOE_COLOURS = ("black", "white", "gray", "red", "blue", "brown", "pink", "green")
HAIR_COLOURS = {
    "black": (28, 24, 24), "brown": (92, 58, 34), "blond": (222, 190, 110), "red": (168, 72, 34),
    "gray": (168, 168, 170),
}  # fmt: skip
SKINS = ((246, 214, 188), (226, 184, 148), (190, 140, 102), (134, 92, 64), (92, 62, 46))
UPPERS = ("t-shirt", "long-sleeved shirt", "hoodie", "jacket", "coat", "tank top")
PATTERNS = ("plain", "striped", "checked", "dotted")
LOWERS = ("trousers", "jeans", "shorts", "skirt", "long skirt")
DENIM = ("blue", "light blue", "black", "gray")
SHOES = ("sneakers", "boots", "shoes")
BAGS = ("none", "backpack", "handbag", "shoulder bag")
EXTRAS = ("none", "cap", "hat", "glasses", "scarf")


@dataclass(frozen=True, slots=True)
class Description:
    """All that captions may say of somebody; no two people of any splits share it."""

    sex: str
    hair: str
    """Length, `ponytail` or `bald`."""
    hair_colour: str
    upper: str
    """`dress` where it is the lower garment, too."""
    upper_colour: str
    pattern: str
    lower: str
    lower_colour: str
    shoes: str
    shoe_colour: str
    bag: str
    bag_colour: str
    extra: str
    extra_colour: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with what captions leave out."""

    description: Description
    side: str
    """Of the body, `left` or `right`, where a bag is that hangs on one."""
    skin: tuple[int, int, int]
    height: float
    """As a share of the usual."""
    build: float
    """Width as a share of the usual."""


def describe(chance: random.Random) -> Description:
    """A random description."""
    sex, colours = chance.choice(("man", "woman")), tuple(COLOURS)
    if sex == "man":
        hair = chance.choices(("short", "long", "bald"), (7, 2, 1))[0]
    else:
        hair = chance.choices(("short", "shoulder-length", "long", "ponytail"), (2, 3, 3, 3))[0]
    hair_colour = "none" if hair == "bald" else chance.choice(tuple(HAIR_COLOURS))
    upper = "dress" if sex == "woman" and chance.random() < 0.2 else chance.choice(UPPERS)
    plain = upper in ("jacket", "coat")
    pattern = "plain" if plain else chance.choices(PATTERNS, (5, 2, 2, 2))[0]
    lowers = LOWERS if sex == "woman" else LOWERS[:3]
    lower = "none" if upper == "dress" else chance.choice(lowers)
    lower_colour = "none" if lower == "none" else chance.choice(DENIM if lower == "jeans" else colours)
    bag, extra = chance.choices(BAGS, (3, 3, 2, 2))[0], chance.choices(EXTRAS, (5, 2, 2, 2, 2))[0]
    return Description(
        sex,
        hair,
        hair_colour,
        upper,
        chance.choice(colours),
        pattern,
        lower,
        lower_colour,
        chance.choice(SHOES),
        chance.choice(SHOE_COLOURS),
        bag,
        "none" if bag == "none" else chance.choice(colours),
        extra,
        chance.choice(colours) if extra in ("cap", "hat", "scarf") else "none",
    )


def split_of(description: Description) -> str:
    """The only split in which somebody of this description may be, whatever the seed."""
    return SPLITS[zlib.crc32("/".join(astuple(description)).encode()) % len(SPLITS)]


def people(count: int, split: str, seed: int) -> list[Person]:
    """The first people of a split; of more people these are the first, and no two have one description."""
    chance, met, found = random.Random(f"{seed}/{split}"), set[Description](), list[Person]()
    while len(found) < count:
        description = describe(chance)
        if split_of(description) != split or description in met:
            continue
        met.add(description)
        own = random.Random(f"{seed}/{split}/{len(found)}")
        side, skin = own.choice(("left", "right")), own.choice(SKINS)
        found.append(Person(description, side, skin, own.uniform(0.93, 1.05), own.uniform(0.9, 1.15)))
    return found
