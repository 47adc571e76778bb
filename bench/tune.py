"""Hyper-parameters for a backbone to which the literature's do not transfer: one grid of equal size for every method.

Learning rates that suit OpenAI's CLIP (logit scale 100, 512 dimensions) do not suit a small model. Each form's `grid`
is run on a validation suite, whose pictures and shift appear in no other suite; the best mean accuracy is kept beside
the backbone with every score, and records say `chosen_by: validation`. No test picture takes part.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from bench import cards, records
from bench.api import METHODS, Form, Record, Suite, UserError, nearest
from bench.runner import Runner, plan

SUITES = ("validation", "validation-finetune")
"""Where a form is tuned: on the first of these that admits it."""


def place(backbone: str) -> Path:
    """Where the choices for an embedded backbone are kept."""
    return Path(__file__).parent / "backbone" / backbone.replace("-", "_") / "tuned.json"


def chosen(backbone: str) -> dict[str, dict[str, Any]]:
    """Form name -> its chosen fields; empty where this backbone keeps the published defaults."""
    path = place(backbone)
    if not path.exists():
        return {}
    try:
        return {name: as_fields(entry["chosen"]) for name, entry in json.loads(path.read_text())["forms"].items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): run `python -m bench tune` again.") from error


def apply(form: Form, choices: Mapping[str, Mapping[str, Any]]) -> Form:
    """The form with what was chosen for it."""
    return form.with_fields(**choices[form.name]) if form.name in choices else form


def recipe(form: Form, suite: Suite) -> dict[str, Any]:
    """What the suite's protocol says of this form's fields: of a method that fine-tunes, and of zero-shot beside it.

    A field that tells a form from others of its method stays. UserError where the suite names a field that no method
    has which fine-tunes, or gives it a value of another type.
    """
    tuners = [other for other in METHODS.values() if other.method.setting == "fine-tune"]
    known = {key: value for other in tuners for key, value in other.hyper_parameters().items()}
    stated = as_fields(suite.fields)
    for key, value in stated.items():
        if key not in known:
            raise UserError(f"{suite.path}: no method that fine-tunes has the field {key!r}; {nearest(key, known)}")
        if known[key] is not None and type(value) is not type(known[key]):
            raise UserError(f"{suite.path}: fields.{key} must be of type {type(known[key]).__name__}, not {value!r}.")
    if form.method.setting not in ("fine-tune", "zero-shot"):
        return {}
    default = {f.name: f.default for f in fields_of(form.method)}  # type: ignore[arg-type]
    return {key: value for key, value in stated.items() if form.hyper_parameters().get(key, ...) == default.get(key)}


def candidates(form: Form) -> list[dict[str, Any]]:
    """Every combination of the form's grid, in order; none where nothing is to choose."""
    grid = form.method.grid
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())] if grid else []


def tune(runner: Runner, forms: Iterable[Form], suite: Suite | None = None) -> dict[str, Any]:
    """Run every candidate of every form that the validation suite admits -> what `write` stores."""
    suite = suite or cards.suite(SUITES[0])
    report: dict[str, Any] = {}
    for form in forms:
        if form.method.setting not in suite.admits:
            continue
        scores = []
        for fields in candidates(form):
            outcome = runner.run(plan(suite, [form.with_fields(**recipe(form, suite)).with_fields(**fields)]))
            if all(record.status == "not-runnable" for record in outcome.records):
                break  # this backbone cannot carry the method: there is nothing to choose
            for record in outcome.records:
                if record.status != "done":
                    raise UserError(f"{form.name} with {fields} did not finish on {record.task.name}: {record.error}")
            scores.append({"fields": fields, "accuracy": accuracy(outcome.records)})
        if scores:
            best = max(scores, key=lambda s: s["accuracy"])["fields"]
            report[form.name] = {"suite": suite.name, "chosen": best, "scores": scores}
    return {"suites": {suite.name: _protocol(suite)}, "forms": report}


def _protocol(suite: Suite) -> dict[str, Any]:
    return {"tests": suite.tests, "shots": suite.shots, "limit": suite.limit, "fields": suite.fields}


def accuracy(found: Sequence[Record]) -> float:
    """Mean accuracy over these cells, read from their predictions."""
    return sum(float((record.prediction == record.label).mean()) for record in found) / len(found)


def write(backbone: str, report: Mapping[str, Any]) -> Path:
    """Keep the choices beside the backbone; forms that were not run keep what they had."""
    path = place(backbone)
    before = json.loads(path.read_text()) if path.exists() else {}
    merged = {key: {**before.get(key, {}), **report[key]} for key in ("suites", "forms")}
    records.write(path, (json.dumps(merged, indent=1) + "\n").encode())
    return path


def as_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON lists back to the tuples that fields hold."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
