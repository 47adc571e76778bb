"""Which suites: as they are named, narrowed, and on data of the user's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import cards, readers, report, sampling
from bench.api import Part, Suite, UserError
from bench.commands.forms import select
from bench.commands.options import MOST, whole


def protocol(args: argparse.Namespace) -> str:
    """The name of the suite to run."""
    if args.images and args.features:
        raise UserError("--images and --features both bring data: leave out one.")
    if not args.suite and not args.images:
        raise UserError("--suite is missing: name a protocol, see `python -m bench list suites`.")
    return args.suite or "few-shot"


def narrowed(suite: Suite, args: argparse.Namespace) -> Suite:
    """The suite with the seeds and shots of the command line."""
    if args.seeds:
        suite = replace(suite, seeds=args.seeds, view_seeds=args.seeds)
    if args.shots:
        words = args.shots.split(",")
        if not all(whole(word, 1, MOST) for word in words):
            raise UserError(f"--shots {args.shots[:40]!r} must be whole numbers above 0 with commas, such as 1,4,16.")
        suite = replace(suite, shots=tuple(dict.fromkeys(map(int, words))))
    return suite


def on_bundle(suite: Suite, file: Path):
    """The suite on a feature bundle's data, with those of its shots that the bundle holds, and the bundle."""
    bundle = readers.open_bundle(file)
    shots = tuple(k for k in suite.shots if k in bundle.shots)
    if not shots:
        raise UserError(
            f"{file} holds {list(bundle.shots)} shots, suite {suite.name!r} asks for {list(suite.shots)}: use --shots."
        )
    return replace(suite, tests=(bundle.card.name,), source=None, shots=shots), bundle


def on_images(suite: Suite, folder: Path, names: str = "all") -> Suite:
    """The suite on a folder of the user's own pictures, with those of its shots that they give."""
    card = readers.images_card(folder)
    suite = replace(suite, title=card.title, tests=(card.name,), source=None, id=None, among=None)
    if not readers.learns(card):
        unlabelled = tuple(setting for setting in suite.admits if setting in ("zero-shot", "test-time"))
        suite = replace(suite, setting="few-shot", admits=unlabelled, shots=(1,))
        try:
            select(names, suite)
        except UserError as error:
            raise UserError(
                f"{folder} has no train folder, so only methods without labelled pictures can run ({error}): "
                f"add {folder}/train/<class>/*, or choose others."
            ) from error
        return suite
    most = sampling.most_shots(readers.read(card, Part(card.name, "train")).labels.tolist())
    shots = tuple(k for k in suite.shots if k <= most)
    if not shots:
        raise UserError(
            f"{folder} gives {most} training pictures a class, suite {suite.name!r} asks for {list(suite.shots)}: "
            f"use --shots {most} or less."
        )
    return replace(suite, shots=shots)


def of_stored(args: argparse.Namespace) -> list[Suite]:
    """The suites of the command line, or all; on a feature bundle's data where one is named."""
    suites = [cards.suite(name) for name in args.suite.split(",")] if args.suite else list(cards.suites().values())
    if not args.features and not getattr(args, "images", None):
        return suites
    if not args.suite:
        raise UserError("--features and --images need --suite: name the suite that the cells were run as.")
    if not args.features:
        return [on_images(suite, args.images) for suite in suites]
    return [on_bundle(suite, args.features)[0] for suite in suites]


def stored(results: Path, suites: Sequence[Suite]) -> report.Reading:
    """The cells of these suites in a results folder that has some."""
    if not (results / "cells").is_dir():
        raise UserError(f"{results} holds no cells: run a suite first, or name its folder by --results DIR.")
    return report.read(results, suites)
