"""The words of the world: what a caption says about a scene, and the prompts that ask for the same things.

A caption is one line of noisy web text: a medium that fits the style, an article, some of the attributes, a
name that is wrong in 8 % of the captions and missing ("thing") in 12 %, sometimes the background or the
distractor. Bare names are rare (4 %). A fine-grained class is called by its family ("star"); its own name
("five-pointed star") comes in 1.5 % of its captions. The synonyms of `scenes.SYNONYMS` never come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bench.world.counter import uniform
from bench.world.scenes import BACKGROUNDS, COLOUR_NAMES, PATTERNS, Scenes
from bench.world.shapes import FINE_NAMES, OBJECT_NAMES

WRONG, MISSING, FINE_NAMED = 0.08, 0.12, 0.015
NOUNS = ("thing", "object", "shape", "item")
MEDIA: dict[str, tuple[str, ...]] = {  # style -> openings
    "photo": (
        "a photo of",
        "a photo of",
        "a picture of",
        "an image of",
        "a good photo of",
        "a close-up photo of",
        "a blurry photo of",
        "a bright photo of",
        "a cropped photo of",
        "a photo showing",
    ),
    "drawing": ("a drawing of", "a cartoon of", "an illustration of", "a painting of", "a drawing of"),
    "sketch": ("a sketch of", "a line drawing of", "a pencil sketch of"),
    "silhouette": ("a silhouette of", "a shadow of", "a dark silhouette of"),
    "negative": ("a negative of", "an inverted photo of", "a negative photo of"),
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "plain", "solid"),
    "striped": ("striped",),
    "dotted": ("dotted", "dotted", "spotted"),
    "checkered": ("checkered",),
    "shaded": ("shaded",),
    "speckled": ("speckled", "speckled", "grainy"),
}
BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain",),
    "gradient": ("gradient", "gradient", "smooth"),
    "noisy": ("noisy", "noisy", "cloudy"),
    "grid": ("grid", "grid", "tiled"),
    "cluttered": ("cluttered", "cluttered", "messy"),
}

# Prompts for class names of each variant; the first is the default, all are what captions sound like.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "objects": (
        "a photo of a {}.",
        "a picture of a {}.",
        "an image of a {}.",
        "a good photo of a {}.",
        "a close-up photo of a {}.",
        "a blurry photo of a {}.",
        "a bright photo of a {}.",
        "a cropped photo of a {}.",
    ),
    "pattern": ("a photo of a {} thing.", "a {} thing.", "a picture of a {} object.", "a photo of a {} shape."),
    "background": (
        "a photo of a thing on a {} background.",
        "a thing on a {} background.",
        "a picture of an object on a {} background.",
    ),
    "colour": ("a photo of a {} thing.", "a {} thing.", "a picture of a {} object.", "a photo of a {} shape."),
}
TEMPLATES["renamed"] = TEMPLATES["fine"] = TEMPLATES["objects"]
STYLE_TEMPLATES: dict[str, tuple[str, ...]] = {
    style: tuple(f"{opening} a {{}}." for opening in openings) for style, openings in MEDIA.items()
}
NEUTRAL_TEMPLATES = ("a {}.", "a {}", "this is a {}.", "the {}.", "there is a {}.")
COMMON = (  # other words of prompts that users like to try: whole tokens, though captions do not teach them
    "one many some two three four five six seven eight ten twelve that these those it of my your in with "
    "without and or for it is was its bad sharp clean dirty weird nice hard see low high resolution "
    "pixelated corrupted big tiny little rendering rendition render toy origami sculpture art black style "
    "texture textured itap doodle graffiti embroidered tattoo plastic jpeg video game cloth centered "
    "satellite view type kind fog foggy hazy rotated twisted bent shiny metal glossy noise low-resolution "
    "coarse"
)


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


class Dice:
    """Choices from a row of uniform numbers, taken one after the other."""

    def __init__(self, row: Sequence[float]) -> None:
        self.row: Iterator[float] = iter(row)

    def chance(self, p: float) -> bool:
        return next(self.row) < p

    def pick(self, options: Sequence[str]) -> str:
        return options[int(next(self.row) * len(options))]


def _caption(dice: Dice, s: dict[str, int | float]) -> str:
    """Every branch is free to stop early: no other caption shares its numbers."""
    style = int(s["style"])
    coloured = style in (0, 1)  # sketches, silhouettes and negatives no longer show the scene's colours
    named = not dice.chance(MISSING)
    fine = s["shape"] >= len(OBJECT_NAMES)
    if not named:
        noun = dice.pick(NOUNS)
    elif dice.chance(WRONG / (1 - MISSING)):
        noun = dice.pick([name for name in OBJECT_NAMES if name != OBJECT_NAMES[int(s["family"])]])
    elif fine and dice.chance(FINE_NAMED):
        noun = FINE_NAMES[int(s["shape"]) - len(OBJECT_NAMES)]
    else:
        noun = OBJECT_NAMES[int(s["family"])]
    phrase = noun
    if coloured and dice.chance(0.45):
        phrase = f"{COLOUR_NAMES[int(s['colour'])]} {phrase}"
    if style != 3 and dice.chance(0.5):
        phrase = f"{dice.pick(PATTERN_WORDS[PATTERNS[int(s['pattern'])]])} {phrase}"
    if dice.chance(0.08):
        phrase = f"{'small' if s['scale'] < 0.58 else 'large' if s['scale'] > 0.72 else 'medium'} {phrase}"
    how = next(dice.row)
    if how < 0.04:
        text = phrase
    elif how < 0.18:
        text = article(phrase)
    else:
        text = f"{dice.pick(MEDIA[('photo', 'drawing', 'sketch', 'silhouette', 'negative')[style]])} {article(phrase)}"
    where = next(dice.row)
    if where < 0.35 and style not in (2, 3):
        text += f" on {article(dice.pick(BACKGROUND_WORDS[BACKGROUNDS[int(s['background'])]]))} background"
    elif where < 0.5 and coloured:
        text += f" on {article(COLOUR_NAMES[int(s['ground'])])} background"
    elif where < 0.75 and s["second"] and style != 2:
        other = OBJECT_NAMES[int(s["shape2"])]
        if coloured and dice.chance(0.4):
            other = f"{COLOUR_NAMES[int(s['colour3'])]} {other}"
        text += f" {dice.pick(('with', 'next to', 'and'))} {article(other)}"
    return text + "." if dice.chance(0.4) else text


def captions(scene: Scenes) -> list[str]:
    """One caption a picture, from the picture's own key."""
    names = (
        "style",
        "shape",
        "family",
        "colour",
        "pattern",
        "scale",
        "background",
        "ground",
        "second",
        "shape2",
        "colour3",
    )
    columns = {name: getattr(scene, name).tolist() for name in names}
    dice = uniform(scene.key, "caption", 24).tolist()
    return [_caption(Dice(row), {name: columns[name][i] for name in names}) for i, row in enumerate(dice)]


def words() -> list[str]:
    """All words of captions and prompts, sorted: what the merges are made from. Synonyms are left out on purpose."""
    texts: list[str] = [*OBJECT_NAMES, *FINE_NAMES, *COLOUR_NAMES, *NOUNS, *NEUTRAL_TEMPLATES, COMMON]
    texts += ["small medium large on background next to with and a an the this is there"]
    for group in (MEDIA, PATTERN_WORDS, BACKGROUND_WORDS, TEMPLATES):
        texts += [text for options in group.values() for text in options]
    return sorted(set(re.findall(r"[a-z]+", " ".join(texts))))
