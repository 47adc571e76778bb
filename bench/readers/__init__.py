"""The few layouts of data sets: a card names its reader, and `read` answers with the rows of a part of it.

Reading is cheap: file names, labels and sizes; no picture is opened or drawn before `Rows.load`. Every
picture is RGB. The rows of a test split come in an order that is fixed by the data set alone and in which any
first n are a fair sample; those of a training split come in the order of the files, because published k-shot
draws depend on it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.api import BUT, Card, Part, UserError, nearest
from bench.readers import arrays, bundle, drawn, folders, lists, split_file
from bench.readers.bundle import Bundle, bundle_card, open_bundle
from bench.readers.kinds import checked
from bench.readers.own import images_card, learns
from bench.readers.rows import Reader, Rows, joined, readable

__all__ = [
    "READERS",
    "Bundle",
    "Reader",
    "Rows",
    "bundle_card",
    "check",
    "check_domain",
    "images_card",
    "learns",
    "listed",
    "open_bundle",
    "read",
]

READERS: dict[str, Reader] = {
    "world": drawn.READER,
    "class-folders": folders.CLASS_FOLDERS,
    "domain-folders": folders.DOMAIN_FOLDERS,
    "split-file": split_file.READER,
    "text-lists": lists.TEXT_LISTS,
    "table": lists.TABLE,
    "arrays": arrays.READER,
    "feature-bundle": bundle.READER,
}


def read(card: Card, part: Part, root: Path | None = None, shots: int | None = None) -> Rows:
    """The rows of a part. Its half is left to the caller (`Rows.only`): draws are made over all classes.

    A data set without validation pictures answers "val" with no rows. `shots` matters for feature bundles
    alone, which hold one fixed support set for each number of shots.
    """
    check_domain(card, part.domain)
    if part.domain is not None and part.domain.startswith(BUT):
        others = [domain for domain in card.domains if domain != part.domain.removeprefix(BUT)]
        return joined([READERS[card.reader].read(card, replace(part, domain=d), root, shots) for d in others])
    return READERS[card.reader].read(card, part, root, shots)


def listed(card: Card) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names and the keys of a card's classes, without looking at any file; both empty where it lists none."""
    options = card.options
    keys = options.get("keys") or options.get("folders") or ()
    return tuple(map(readable, card.classes)), tuple(keys)


def check(card: Card) -> None:
    """Raise a UserError where the card's options, domains or counts are not what its reader needs."""
    reader = READERS[card.reader]
    shown = card.path or card.name
    checked(card.options, reader.options, f"{shown}: options")
    if reader.domains == "needed" and not card.domains:
        raise UserError(f"{shown}: domains is missing; the reader {card.reader} needs the names of the domains.")
    if reader.domains == "none" and card.domains:
        raise UserError(f"{shown}: domains must be left out; the reader {card.reader} knows none.")
    reader.check(card)


def check_domain(card: Card, domain: str | None) -> None:
    """Raise a UserError unless the card has this domain, or has none and none is asked for."""
    if domain is None:
        if card.domains:
            raise UserError(f"data set {card.name} has domains: name one, such as {card.name}:{card.domains[0]}.")
    elif not card.domains:
        raise UserError(f"data set {card.name} has no domains: leave out {domain!r}.")
    elif domain.startswith(BUT) and not (READERS[card.reader].one_split and len(card.domains) > 1):
        raise UserError(f"data set {card.name} cannot be read without one domain: {domain!r} must name one itself.")
    elif domain.removeprefix(BUT) not in card.domains:
        raise UserError(f"data set {card.name} has no domain {domain!r}; {nearest(domain, card.domains)}")
