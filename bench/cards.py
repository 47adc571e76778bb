"""Data sets and suites: the TOML files of datasets/ and datasets/suites/ become Cards, Suites and Tasks.

A file is named after what it holds (pacs.toml says name = "pacs"), so one card can be read without the
others. Whatever is wrong in a file is a UserError of one sentence that names the file, the key and the
remedy.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import readers
from bench.api import BUT, SETTINGS, Card, Download, Obtain, Part, Suite, Task, UserError, nearest
from bench.readers import kinds
from bench.readers.kinds import Kind, checked


def home() -> Path:
    """The folder of the cards: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "datasets"
    # in site-packages the neighbour may be the well-known library of that name, which has no suites of ours
    return beside if any((beside / "suites").glob("*.toml")) else package / "datasets"


# -- what a file may say -------------------------------------------------------------------------------------

CARD = {
    "name": Kind("a name of letters, digits, '-', '_' and '.'", kinds.name, True),
    "title": Kind("a text that is not empty", kinds.text, True),
    "reader": Kind(f"one of {', '.join(sorted(readers.READERS))}", kinds.text, True),
    "templates": Kind(
        'a list of different texts with one {} for the class name, such as ["a photo of a {}."]',
        kinds.list_of(kinds.template),
        True,
    ),
    "licence": Kind("a text that is not empty", kinds.text, True),
    "source": Kind("a text that says where the data comes from", kinds.text, True),
    "folder": Kind("a folder below the data root, without '..'", kinds.inside),
    "classes": Kind("a list of class names in the order of the labels", kinds.list_of(kinds.class_name, twice=True)),
    "domains": Kind("a list of different names without ':', '/' or '@'", kinds.list_of(kinds.domain)),
    "counts": Kind("a table of whole numbers above 0", kinds.table_of(kinds.count)),
    "citation": Kind("a text", lambda value: isinstance(value, str)),
    "options": Kind("a table of what the reader needs", kinds.table_of()),
    "obtain": Kind("a table of how to get the data", kinds.table_of()),
}
OBTAIN = {
    "how": Kind("a text: the steps to take by hand", kinds.prose, True),
    "torchvision": Kind("the name of a class in torchvision.datasets", lambda v: kinds.text(v) and v.isidentifier()),
    "hub": Kind("owner/name on the Hugging Face hub", lambda v: kinds.inside(v) and v.count("/") == 1),
    "urls": Kind('a list of tables, such as [{url = "https://..."}]', lambda v: isinstance(v, list) and bool(v)),
}
URL = {
    "url": Kind("an address that begins with https:// or http://", kinds.address, True),
    "sha256": Kind("64 lower-case hexadecimal digits", lambda v: kinds.sha256(v) and len(v) == 64),
    "extract": Kind("a folder below the data root, without '..'", kinds.inside),
}
FEW = Kind("a whole number from 1 to 10000", kinds.few)
OTHERS = "other domains"
"""The source of a suite that leaves one domain out."""
SETTING_NAMES = ("domain-shift", "few-shot", "base-to-new")
SUITE = {
    "name": CARD["name"],
    "title": CARD["title"],
    "setting": Kind(f"one of {', '.join(SETTING_NAMES)}", SETTING_NAMES.__contains__, True),
    "tests": Kind('a list of different data sets, such as ["world-sketch:3"]', kinds.list_of(kinds.text), True),
    "admits": Kind(
        f"a list of different settings out of {', '.join(SETTINGS)}",
        kinds.list_of(SETTINGS.__contains__),
        True,
    ),
    "backbone": Kind("the name of a backbone, such as 'world-rn'", kinds.text, True),
    "source": Kind(f"a data set, such as 'world-photo', or {OTHERS!r}", kinds.text),
    "shots": Kind(
        "a list of different whole numbers, 0 for all pictures", kinds.list_of(lambda k: k == 0 or kinds.count(k))
    ),
    "fields": Kind("a table of fields of methods that fine-tune", kinds.table_of()),
    "id": Kind("the one of the tests that is in distribution", kinds.text),
    "among": Kind("a data set whose card lists its classes, such as 'imagenet'", kinds.text),
    "seeds": FEW,
    "view_seeds": FEW,
    "views": FEW,
    "limit": Kind("a whole number above 0 (leave it out for all pictures)", kinds.count),
}


def _parsed(file: Path, kinds_: Mapping[str, Kind]) -> dict[str, Any]:
    """The file's table with every key checked; lists as tuples; `path` added."""
    shown = f"{file.parent.name}/{file.name}"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested without end
        raise UserError(f"{shown} is not a TOML file: {' '.join(str(error).split())}.") from error
    except OSError as error:
        raise UserError(f"{shown} cannot be read ({error.strerror}): check the file and its rights.") from error
    checked(table, kinds_, shown)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()} | {"path": shown}


def _same_name(entry: Card | Suite) -> None:
    """A file is named after what it holds."""
    if entry.path != f"{entry.path.split('/')[0]}/{entry.name}.toml":
        raise UserError(
            f"{entry.path}: name is {entry.name!r}; rename the file to {entry.name}.toml or change the name."
        )


def _different(entries: Iterable[Card | Suite]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.name in seen:
            raise UserError(
                f"{entry.path}: the name {entry.name!r} is taken by {seen[entry.name]} already; rename one."
            )
        seen[entry.name] = entry.path


# -- data sets -----------------------------------------------------------------------------------------------


def cards(folder: Path | None = None) -> dict[str, Card]:
    """Every data set by name, in alphabetical order."""
    found = [_card(file) for file in sorted((folder or home()).glob("*.toml"))]
    _different(found)
    for entry in found:
        _same_name(entry)
    return {entry.name: entry for entry in found}


def markdown(known: Iterable[Card]) -> str:
    """The table of data sets on disk, as the README has it: counts as the cards expect them."""
    lines = ["| data set | classes | pictures | folder | licence | `data fetch` |", "|---|---|---|---|---|---|"]
    for entry in known:
        if entry.reader == "world":
            continue
        domains = [f"{len(entry.domains)} domains"] if entry.domains else []
        counts = [f"{entry.counts[key]:,} {key}" for key in ("train", "val", "test") if key in entry.counts]
        whole = entry.counts.get("total") or sum(entry.counts.get(domain, 0) for domain in entry.domains)
        pictures = ", ".join([*domains, *counts, *([f"{whole:,} in all"] if whole else [])])
        obtain = entry.obtain or Obtain("")
        fetched = (
            "torchvision" if obtain.torchvision else "hub" if obtain.hub else "by address" if obtain.urls else "steps"
        )
        classes, place = entry.counts.get("classes", ""), f"`{entry.folder}`"
        cells = (f"`{entry.name}`", classes, pictures, place, entry.licence, fetched)
        lines.append(f"| {' | '.join(map(str, cells))} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def card(name: str, folder: Path | None = None) -> Card:
    """One data set; only its own file is read."""
    folder = folder or home()
    names = [file.stem for file in folder.glob("*.toml")]
    if name not in names:
        raise UserError(f"unknown data set {name!r}; {nearest(name, names)}")
    found = _card(folder / f"{name}.toml")
    _same_name(found)
    return found


def _card(file: Path) -> Card:
    table = _parsed(file, CARD)
    obtain = _obtain(table["path"], table.pop("obtain", None))
    found = Card(**table, obtain=obtain)
    if found.reader not in readers.READERS:
        raise UserError(f"{found.path}: unknown reader {found.reader!r}; {nearest(found.reader, readers.READERS)}")
    keys = ("classes", "train", "val", "test", *((*found.domains, "total") if found.domains else ()))
    for key in found.counts:
        if key not in keys:
            raise UserError(f"{found.path}: unknown key {key!r} in counts; {nearest(key, keys)}")
    if found.classes and found.counts.get("classes", len(found.classes)) != len(found.classes):
        raise UserError(
            f"{found.path}: counts.classes is {found.counts['classes']}, but classes lists "
            f"{len(found.classes)} names; mend one of them."
        )
    readers.check(found)
    return found


def _obtain(shown: str, table: Mapping[str, Any] | None) -> Obtain | None:
    """How to get the data, every key checked; None where the card does not say."""
    if table is None:
        return None
    checked(table, OBTAIN, f"{shown}: obtain")
    for number, entry in enumerate(table.get("urls", ())):
        if not isinstance(entry, dict):
            raise UserError(f'{shown}: obtain.urls[{number}] must be a table, such as {{url = "https://..."}}.')
        checked(entry, URL, f"{shown}: obtain.urls[{number}]")
    return Obtain(
        **{**table, "how": table["how"].strip(), "urls": tuple(Download(**entry) for entry in table.get("urls", ()))}
    )


# -- suites --------------------------------------------------------------------------------------------------


def suites(folder: Path | None = None) -> dict[str, Suite]:
    """Every suite by name, in alphabetical order; `folder` is the folder of the cards."""
    found = [_suite(file) for file in sorted(((folder or home()) / "suites").glob("*.toml"))]
    _different(found)
    for entry in found:
        _same_name(entry)
        check(entry, folder)
    return {entry.name: entry for entry in found}


def suite(name: str, folder: Path | None = None) -> Suite:
    """One suite, checked against the cards that it names."""
    home_ = folder or home()
    names = [file.stem for file in (home_ / "suites").glob("*.toml")]
    if name not in names:
        raise UserError(f"unknown suite {name!r}; {nearest(name, names)}")
    found = _suite(home_ / "suites" / f"{name}.toml")
    _same_name(found)
    check(found, folder)
    return found


def _suite(file: Path) -> Suite:
    return Suite(**_parsed(file, SUITE))


def check(suite: Suite, folder: Path | None = None) -> None:
    """Raise a UserError where the suite does not fit together: its data sets, their domains, its setting."""
    shown = suite.path or f"suite {suite.name}"
    if suite.setting == "domain-shift" and suite.source is None:
        raise UserError(f"{shown}: source is missing; name the data set that labelled pictures come from.")
    if suite.setting != "domain-shift" and suite.source is not None:
        raise UserError(
            f"{shown}: source must be left out; in a {suite.setting} suite labelled pictures come from the "
            f"tested set itself."
        )
    if suite.id is not None and (suite.setting != "domain-shift" or suite.id not in suite.tests):
        raise UserError(f"{shown}: id names {suite.id!r}; name one of the tests, in a domain-shift suite.")
    for key, references in (
        ("tests", suite.tests),
        ("source", () if suite.source in (None, OTHERS) else (suite.source,)),
    ):
        for reference in references:
            name, domain = split_reference(reference)
            try:
                readers.check_domain(card(name, folder), domain)
            except UserError as error:
                raise UserError(f"{shown}: {key} names {reference!r}: {error}") from error
    for test in suite.tests:
        name, domain = split_reference(test)
        known = card(name, folder)
        if suite.source == OTHERS:
            several = readers.READERS[known.reader].one_split and len(known.domains) > 1
            if not several or domain not in known.domains:
                raise UserError(f"{shown}: {test!r} has no {OTHERS}; test on a domain of a data set that has several.")
            continue
        source = split_reference(test if suite.source is None else suite.source)
        shared = source[0] == name and set(_domains(known, source[1])) & set(_domains(known, domain))
        if shared and readers.READERS[known.reader].one_split:
            raise UserError(
                f"{shown}: {test!r} has one split only and cannot be learnt from and tested on at once; "
                f"take another domain as source."
            )
    if suite.among is not None and (suite.setting != "domain-shift" or not card(suite.among, folder).classes):
        raise UserError(
            f"{shown}: among names {suite.among!r}; name a data set whose card lists its classes, and that in a "
            f"domain-shift suite."
        )


def _domains(card: Card, domain: str | None) -> list[str | None]:
    """The domains that a reference to the card stands for."""
    if domain is None or not domain.startswith(BUT):
        return [domain]
    return [other for other in card.domains if other != domain.removeprefix(BUT)]


def split_reference(reference: str) -> tuple[str, str | None]:
    """`data set` or `data set:domain` -> (data set, domain or None)."""
    name, colon, domain = reference.partition(":")
    return name, domain if colon else None


def severity(part: Part, folder: Path | None = None) -> int | None:
    """How strong the shift of its pictures is, where the data set's domains are the severities of one shift."""
    folder = folder or home()
    if part.domain is None or not part.domain.isdecimal() or not (folder / f"{part.dataset}.toml").is_file():
        return None
    return int(part.domain) if "shift" in card(part.dataset, folder).options else None


# -- tasks ---------------------------------------------------------------------------------------------------


def tasks(suite: Suite, shots: Iterable[int] | None = None) -> list[Task]:
    """The tasks of a suite with labelled support, in the order of its shots and tests.

    Methods that learn from nothing answer `unsupported(task)` instead. `shots` replaces the suite's. To run a
    suite on other data, such as a feature bundle, replace its tests first.
    """
    out = []
    for k in suite.shots if shots is None else tuple(shots):
        if k < 0:
            raise UserError(f"shots must be 0 (all pictures) or more, not {k}.")
        for reference in suite.tests:
            test = Part(*_reorder(reference, "test"))
            among = None if test.dataset == suite.among else suite.among
            if suite.setting == "base-to-new":
                train = replace(test, split="train", half="base")
                out += [Task(replace(test, half=half), train, k, suite.limit) for half in ("base", "new")]
            elif suite.source == OTHERS:
                train = replace(test, split="train", domain=f"{BUT}{test.domain}")
                out.append(Task(test, train, k, suite.limit, among))
            else:
                train = Part(*_reorder(suite.source or reference, "train"))
                out.append(Task(test, train, k, suite.limit, among))
    return out


def _reorder(reference: str, split: Any) -> tuple[str, Any, str | None]:
    name, domain = split_reference(reference)
    return name, split, domain


def unsupported(task: Task) -> Task:
    """The same question without labelled pictures: one cell for all shots, sources and suites."""
    return replace(task, train=None, shots=0)
