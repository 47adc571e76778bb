"""Which methods, with which hyper-parameters: what `--methods`, `--set` and `--sweep` say."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Any

from bench import plugins
from bench.api import METHODS, Form, Suite, UserError, nearest

REFERENCE = "zero-shot"
VIEW_REFERENCES = ("view-mean", "view-mean-confident")
"""Rows of every table with test-time methods: without them, agreement of views looks like adaptation."""


def named(names: str, left_out: Sequence[plugins.Plugin]) -> dict[str, list[Form]]:
    """Each word and the forms that it stands for.

    A family stands for its forms that are not `extra`, or for all where there are no others; where a word names both a
    family and a form, the family is meant. UserError for an unknown name, with the reason where a plug-in that is left
    out would have brought it.
    """
    families: dict[str, list[Form]] = {"all": list(METHODS.values())}
    for form in METHODS.values():
        families.setdefault(form.family, []).append(form)
    found = {}
    for name in dict.fromkeys(word.strip() for word in names.split(",")):
        plugins.refuse_left_out(name, name in families or name in METHODS, left_out)
        if name in families:
            found[name] = [form for form in families[name] if not form.extra] or families[name]
        elif name in METHODS:
            found[name] = [METHODS[name]]
        else:
            raise UserError(f"unknown method {name!r}: {nearest(name, [*families, *METHODS][1:])}")
    return found


def select(names: str, suite: Suite, left_out: Sequence[plugins.Plugin] = ()) -> list[Form]:
    """The forms that were asked for and that the suite admits, in leaderboard order, references included."""
    wanted = {REFERENCE}
    for name, found in named(names, left_out).items():
        admitted = [form for form in found if form.method.setting in suite.admits]
        if not admitted:
            kinds = " and ".join(sorted({form.method.setting for form in found}))
            raise UserError(
                f"suite {suite.name!r} admits {', '.join(suite.admits)}; method {name!r} is {kinds}: "
                "choose another suite."
            )
        wanted.update(form.name for form in admitted)
    if any("test-time" in METHODS[name].method.setting for name in wanted):
        wanted.update(name for name in VIEW_REFERENCES if METHODS[name].method.setting in suite.admits)
    return [form for form in METHODS.values() if form.name in wanted]


def settings(words: Sequence[str], wanted: Sequence[Form], option: str = "--set") -> dict[str, dict[str, Any]]:
    """`rada.alpha=0.5` for every wanted form of that name or family that has the field."""
    changed: dict[str, dict[str, Any]] = {}
    for word in words:
        target, equals, text = word.partition("=")
        name, dot, key = target.partition(".")
        if not equals or not dot:
            raise UserError(f"{option} {word!r} must look like rada.alpha=0.5.")
        forms = [form for form in wanted if name in (form.name, form.family)]
        if not forms:
            raise UserError(
                f"{option} {word!r}: {name!r} is not among the methods of this run: "
                f"{nearest(name, [form.name for form in wanted])}"
            )
        having = [form for form in forms if key in form.hyper_parameters()]
        if not having:
            known = sorted({key for form in forms for key in form.hyper_parameters()})
            raise UserError(f"{option} {word!r}: {name!r} has no field {key!r}; {nearest(key, known)}")
        for form in having:
            changed.setdefault(form.name, {})[key] = parsed(f"{option} {word!r}", text, form.hyper_parameters()[key])
    return changed


def sweeps(words: Sequence[str], wanted: Sequence[Form]) -> dict[str, list[dict[str, Any]]]:
    """`wise-ft.alpha=0.0,0.5,1.0`: a form's variants, every combination where several of its fields are swept."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for word in words:
        target, equals, values = word.partition("=")
        if not equals:
            raise UserError(f"--sweep {word!r} must look like rada.alpha=0.1,0.5.")
        columns: dict[str, list[dict[str, Any]]] = {}
        for value in values.split(","):
            for name, change in settings([f"{target}={value}"], wanted, "--sweep").items():
                columns.setdefault(name, []).append(change)
        for name, changes in columns.items():
            variants[name] = [{**row, **change} for row in variants.get(name, [{}]) for change in changes]
    return variants


def parsed(word: str, text: str, default: Any) -> Any:
    """The value in the type of the field's default."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what literals provoke
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, tuple) and isinstance(value, str | list):
        value = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
    if default is not None and type(value) is not type(default):
        raise UserError(f"{word}: the value must be of type {type(default).__name__}, as in {default!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{word}: the value must be finite, as in {default!r}.")
    return value
