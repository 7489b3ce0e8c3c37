"""What people write of a pedestrian: other words for the same thing, in other orders, with parts left unsaid."""

import random
from collections.abc import Sequence

from pocketclip.data.sources.pedestrians.world import Description, Person

FEWEST_WORDS, MOST_WORDS = 10, 25
_PEOPLE = {"man": ("man", "man", "male", "guy", "gentleman"), "woman": ("woman", "woman", "female", "lady", "girl")}
_COLOURS: dict[str, tuple[str, ...]] = {
    "black": ("black", "black", "jet black"),
    "white": ("white", "white", "snow white"),
    "gray": ("gray", "grey"),
    "red": ("red", "red", "crimson", "scarlet"),
    "blue": ("blue", "blue", "royal blue", "dark blue"),
    "light blue": ("light blue", "sky blue", "pale blue"),
    "green": ("green", "green", "emerald"),
    "yellow": ("yellow", "yellow", "lemon yellow"),
    "orange": ("orange",),
    "purple": ("purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "brown": ("brown", "brown", "chocolate brown"),
    "beige": ("beige", "khaki", "cream colored"),
}
_HAIR = {
    "black": ("black", "dark"), "brown": ("brown", "chestnut"), "blond": ("blond", "blonde", "fair"),
    "red": ("red", "ginger"), "gray": ("gray", "grey"),
}  # fmt: skip
_GARMENTS: dict[str, tuple[str, ...]] = {
    "t-shirt": ("t-shirt", "tee", "short sleeved shirt"),
    "long-sleeved shirt": ("long sleeved shirt", "long sleeve top", "shirt with long sleeves"),
    "hoodie": ("hoodie", "hooded sweatshirt", "hooded sweater"),
    "jacket": ("jacket", "open jacket", "zip-up jacket"),
    "coat": ("coat", "long coat", "overcoat"),
    "tank top": ("tank top", "sleeveless top", "sleeveless shirt"),
    "dress": ("dress", "one-piece dress"),
    "trousers": ("trousers", "pants", "slacks", "long pants"),
    "jeans": ("jeans", "denim pants", "denim jeans"),
    "shorts": ("shorts", "short pants", "knee-length shorts"),
    "skirt": ("skirt", "short skirt", "knee-length skirt"),
    "long skirt": ("long skirt", "ankle-length skirt", "maxi skirt"),
    "sneakers": ("sneakers", "trainers", "running shoes", "tennis shoes"),
    "boots": ("boots", "high boots"),
    "shoes": ("shoes", "leather shoes"),
    "backpack": ("backpack", "rucksack", "knapsack"),
    "handbag": ("handbag", "purse"),
    "shoulder bag": ("shoulder bag", "messenger bag"),
    "cap": ("cap", "baseball cap"),
    "hat": ("hat", "sun hat", "wide-brimmed hat"),
    "glasses": ("glasses", "eyeglasses", "spectacles"),
    "scarf": ("scarf", "shawl"),
}
_PATTERNS = {
    "striped": ("striped", "stripes"),
    "checked": (("plaid", "checked", "checkered"), "checks"),
    "dotted": (("polka dot", "dotted", "spotted"), "dots"),
}
_PAIRS = frozenset({"trousers", "jeans", "shorts", "sneakers", "boots", "shoes", "glasses"})
"""Things that are several: no article, `a pair of` instead."""


def captions(person: Person, facing: str, chance: random.Random, *, sides: bool) -> tuple[str, str]:
    """Two sentences by two writers; with `sides`, they say on which side of the body a bag is."""
    return _written(person, facing, chance, sides=sides), _written(person, facing, chance, sides=sides)


def _written(person: Person, facing: str, chance: random.Random, *, sides: bool) -> str:
    writer = _Writer(person, chance, sides=sides)
    told = person.description
    clothes = [writer.upper()] if told.lower == "none" else [writer.upper(), writer.lower()]
    others = [writer.shoes()]
    if told.extra != "none" and not (told.extra == "glasses" and facing == "back"):
        others.append(writer.extra())
    chance.shuffle(others)
    carried = [] if told.bag == "none" else [writer.bag()]
    hair = [writer.hair()] if told.hair != "bald" or told.extra not in ("cap", "hat") else []
    # Nobody tells all: hair, shoes and what is carried are left out now and then
    kept = [parts if chance.random() < share else [] for parts, share in ((hair, 0.65), (carried, 0.85))]
    others = [part for part in others if chance.random() < 0.75]
    order = chance.randrange(len(_ORDERS))
    text = _ORDERS[order](writer, clothes, others, kept[0], kept[1])
    for parts, more in ((others, [writer.shoes()]), (kept[0], hair), (kept[1], carried)):
        if len(text.split()) < FEWEST_WORDS and not parts:
            parts += more
            text = _ORDERS[order](writer, clothes, others, kept[0], kept[1])
    while len(text.split()) > MOST_WORDS and (left := [parts for parts in (kept[0], others, kept[1]) if parts]):
        left[0].pop()
        text = _ORDERS[order](writer, clothes, others, kept[0], kept[1])
    if len(text.split()) < FEWEST_WORDS:
        text = f"{text.removesuffix('.')}, {_WAYS[facing]}."
    return text


_WAYS = {
    "front": "walking towards the camera", "back": "seen from behind while walking away",
    "left": "walking past to the left" , "right": "walking past to the right",
}  # fmt: skip


class _Writer:
    """Chooses words for one caption."""

    def __init__(self, person: Person, chance: random.Random, *, sides: bool) -> None:
        self.told: Description = person.description
        self.chance = chance
        self.side = f"{person.side} " if sides else ""
        male = self.told.sex == "man"
        self.who = chance.choice(_PEOPLE[self.told.sex])
        self.subject, self.own = ("he", "his") if male else ("she", "her")

    def upper(self) -> str:
        """The upper garment, or the dress."""
        thing = self._thing(self.told.upper, self.told.upper_colour)
        if self.told.pattern == "plain":
            return _article(thing)
        before, behind = _PATTERNS[self.told.pattern]
        if self.chance.random() < 0.3:
            return f"{_article(thing)} with {behind}"
        return _article(f"{before if isinstance(before, str) else self.chance.choice(before)} {thing}")

    def lower(self) -> str:
        """The lower garment."""
        return self._counted(self.told.lower, self.told.lower_colour)

    def shoes(self) -> str:
        """What the feet are in."""
        return self._counted(self.told.shoes, self.told.shoe_colour)

    def extra(self) -> str:
        """Cap, hat, glasses or scarf."""
        return self._counted(self.told.extra, "" if self.told.extra == "glasses" else self.told.extra_colour)

    def bag(self) -> str:
        """The bag and where it is."""
        bag = _article(self._thing(self.told.bag, self.told.bag_colour))
        if self.told.bag == "backpack":
            return self.chance.choice((bag, f"{bag} on {self.own} back"))
        where = (
            f"in {self.own} {self.side}hand" if self.told.bag == "handbag" else f"over {self.own} {self.side}shoulder"
        )
        return f"{bag} {where}" if self.side or self.chance.random() < 0.6 else bag

    def hair(self) -> str:
        """Length and colour of the hair."""
        if self.told.hair == "bald":
            return self.chance.choice(("a bald head", "no hair"))
        colour = self.chance.choice(_HAIR[self.told.hair_colour])
        if self.told.hair == "ponytail":
            return self.chance.choice((f"{colour} hair in a ponytail", f"a {colour} ponytail"))
        return self.chance.choice((f"{self.told.hair} {colour} hair", f"{colour} {self.told.hair} hair"))

    def _colour(self, name: str) -> str:
        return self.chance.choice(_COLOURS[name])

    def _thing(self, kind: str, colour: str) -> str:
        noun = self.chance.choice(_GARMENTS[kind])
        return f"{self._colour(colour)} {noun}" if colour else noun

    def _counted(self, kind: str, colour: str) -> str:
        thing = self._thing(kind, colour)
        if kind not in _PAIRS:
            return _article(thing)
        return f"a pair of {thing}" if self.chance.random() < 0.25 else thing


def _article(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _one_sentence(w: _Writer, clothes: list[str], others: list[str], hair: list[str], bag: list[str]) -> str:
    with_hair = f" with {hair[0]}" if hair else ""
    carrying = f", carrying {bag[0]}" if bag else ""
    return f"{_article(w.who).capitalize()}{with_hair} wearing {_listed(clothes + others)}{carrying}."


def _two_sentences(w: _Writer, clothes: list[str], others: list[str], hair: list[str], bag: list[str]) -> str:
    rest = [f"{w.subject} has {hair[0]}"] if hair else []
    rest += [f"{w.subject} carries {bag[0]}"] if bag else []
    behind = f" {' and '.join(rest).capitalize()}." if rest else ""
    return f"The {w.who} wears {_listed(clothes + others)}.{behind}"


def _hair_first(w: _Writer, clothes: list[str], others: list[str], hair: list[str], bag: list[str]) -> str:
    first = f"The {w.who} has {_listed(hair + bag)} and is" if hair or bag else f"This is a {w.who}"
    return f"{first} dressed in {_listed(clothes + others)}."


def _lower_first(w: _Writer, clothes: list[str], others: list[str], hair: list[str], bag: list[str]) -> str:
    behind = f" {w.subject.capitalize()} has {hair[0]}." if hair else ""
    having = f", with {bag[0]}" if bag else ""
    return f"{w.subject.capitalize()} is wearing {_listed(clothes[::-1] + others)}{having}.{behind}"


def _telegram(w: _Writer, clothes: list[str], others: list[str], hair: list[str], bag: list[str]) -> str:
    parts = [*hair, *clothes, *others, *bag]
    return f"{w.who.capitalize()} with {', '.join(parts)}."


def _carrying_first(w: _Writer, clothes: list[str], others: list[str], hair: list[str], bag: list[str]) -> str:
    first = f"Carrying {bag[0]}, the {w.who}" if bag else f"The {w.who} in the picture"
    behind = f" and has {hair[0]}" if hair else ""
    return f"{first} has on {_listed(clothes + others)}{behind}."


_ORDERS = (_one_sentence, _two_sentences, _hair_first, _lower_first, _telegram, _carrying_first)
