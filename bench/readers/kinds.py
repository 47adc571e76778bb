"""What a key of a card may hold: predicates on plain TOML values, and the words for when one fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bench.api import UserError, nearest

LARGEST = 10**8
"""As many pictures, pixels or shots as a card may speak of."""
Check = Callable[[Any], bool]


class Kind(NamedTuple):
    """How a value must look, in words and as a check."""

    words: str
    holds: Check
    required: bool = False


def checked(table: Mapping[str, Any], kinds: Mapping[str, Kind], shown: str) -> None:
    """Raise a UserError for the first key that is unknown, wrong or missing; `shown` says where the table
    stands."""
    for key, value in table.items():
        if key not in kinds:
            raise UserError(f"{shown}: unknown key {key!r}; {nearest(key, kinds)}")
        if not kinds[key].holds(value):
            raise UserError(f"{shown}: {key} must be {kinds[key].words}, not {_short(value)}.")
    for key, kind in kinds.items():
        if kind.required and key not in table:
            raise UserError(f"{shown}: {key} is missing; add it: {kind.words}.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def class_name(value: Any) -> bool:
    """A text of which something is left where underscores are blanks."""
    return text(value) and bool(value.replace("_", " ").strip())


def prose(value: Any) -> bool:
    """A text that may have several lines."""
    return isinstance(value, str) and bool(value.strip()) and all(map(text, filter(None, value.split("\n"))))


def address(value: Any) -> bool:
    return text(value) and value.startswith(("https://", "http://")) and " " not in value


def sha256(value: Any) -> bool:
    """A hash, or its first 12 digits at least."""
    return isinstance(value, str) and 12 <= len(value) <= 64 and not set(value) - set("0123456789abcdef")


def name(value: Any) -> bool:
    return text(value) and value[0].isalnum() and all(c.isalnum() or c in "-_." for c in value)


def inside(value: Any) -> bool:
    """A path that stays in the folder it starts from."""
    return text(value) and value[0] not in "/~" and not set(value) & set("\\:") and ".." not in value.split("/")


def domain(value: Any) -> bool:
    return text(value) and not value.startswith(".") and not set(value) & set(":/\\@")


def template(value: Any) -> bool:
    return text(value) and value.count("{}") == value.count("{") == value.count("}") == 1


def count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def few(value: Any) -> bool:
    """A count of what a run does once more for each."""
    return count(value) and value <= 10_000


def share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def one_of(*values: Any) -> Kind:
    return Kind(f"one of {', '.join(map(str, values))}", lambda value: not isinstance(value, bool) and value in values)


YES = Kind("true, or left out", lambda value: value is True)


def list_of(holds: Check, twice: bool = False) -> Check:
    """A list that is not empty, of different values unless `twice`."""

    def check(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and bool(value)
            and all(map(holds, value))
            and (twice or len(set(value)) == len(value))
        )

    return check


def table_of(holds: Check = lambda value: True) -> Check:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))
