"""What a command line asks to be computed: which cells, on which models, by which runner."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import cards, interrupts, provenance, records, tune
from bench.api import Form, Suite, UserError
from bench.commands.forms import select, settings, sweeps
from bench.commands.options import cache_folder, openers
from bench.commands.suites import narrowed, on_bundle, on_images, protocol
from bench.engines.setup import Setup
from bench.faults import point
from bench.runner import Cell, Runner, plan, shard


@dataclass(frozen=True)
class Asked:
    """A suite and forms for it. changed: fields that the user sets, by form; variants: rows of a form; part: i of n."""

    suite: Suite
    forms: Sequence[Form]
    changed: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Sequence[Mapping[str, Any]]]
    part: tuple[int, int]

    def cells(self, runner: Runner, suite: Suite) -> list[Cell]:
        """On the runner's backbone, with what was chosen for it and by whom. suite: as `make_setup` returned it."""
        choices = tune.chosen(runner.backbone.name)
        forms, chosen_by = [], {}
        for form in self.forms:
            user, rows = self.changed.get(form.name, {}), self.variants.get(form.name, [{}])
            recipe = tune.recipe(form, suite)
            own = tune.apply(form, choices).with_fields(**recipe).with_fields(**user)
            forms += [own.with_fields(**values) for values in rows]
            said = {
                "user": user or rows != [{}],
                "validation": form.name in choices,
                "suite": recipe,
                "fixed": True,
            }
            chosen_by[form.name] = next(who for who, spoke in said.items() if spoke)
        return shard(plan(suite, forms, chosen_by), *self.part)


def asked(args: argparse.Namespace) -> Asked:
    """What `options.add_cells` has read; UserError where it names nothing that there is."""
    suite = narrowed(cards.suite(protocol(args)), args)
    if args.images:
        suite = on_images(suite, args.images, args.methods)
    wanted = select(args.methods, suite, args.left_out)
    return Asked(suite, wanted, settings(args.set, wanted), sweeps(args.sweep, wanted), args.shard)


def models(args: argparse.Namespace, suite: Suite) -> list[str | None]:
    """What `--backbone` names, or the suite's; all are found before anything is computed. None for a feature bundle."""
    if getattr(args, "features", None):
        if args.backbone or args.random_weights:
            raise UserError("--features brings its own features: leave out --backbone and --random-weights.")
        return [None]
    if args.random_weights and not args.backbone:
        raise UserError("--random-weights needs an architecture: --backbone ViT-B-16, or another of open_clip's.")
    from bench import backbone

    names = dict.fromkeys(filter(None, map(str.strip, (args.backbone or suite.backbone).split(","))))
    if not names:
        raise UserError(f"--backbone {args.backbone!r} names none: write one, or several with commas.")
    found = {name: backbone.find(name, args.random_weights) for name in names}
    by_title = {source if isinstance(source, str) else source.name: name for name, source in reversed(found.items())}
    return list(reversed(by_title.values()))


def make_setup(args: argparse.Namespace, suite: Suite, model: str | None) -> tuple[Setup, Suite]:
    """What makes the runner on one of `models`, here or elsewhere; a feature bundle stands in for data and backbone."""
    features = getattr(args, "features", None)
    if features:
        suite, _ = on_bundle(suite, features)
    return Setup(
        model,
        args.random_weights,
        args.results,
        cache_folder(args),
        args.device,
        args.precision,
        args.text_chunk,
        args.cache_limit,
        openers(args),
        args.data_root,
        suite.views,
        features,
        getattr(args, "images", None),
        args.on_bad_image,
        provenance.command(),
        tuple(args.plugin),
        checkpoint_every=args.checkpoint_every,
    ), suite


def writable(results: Path) -> None:
    """Refuse before anything is computed where nothing could be stored."""
    try:
        records.make_folder(results)
        records.sweep(results)
        with interrupts.held():
            probe = records.new_temporary(results)
            point("probe.made")
            probe.rmdir()
            point("probe.removed")
    except OSError as error:
        raise UserError(f"results folder {results} cannot be written ({error.strerror}): use --results DIR.") from error
