"""Tables of the benchmarks, for the terminal and for markdown, and the line that says where they were measured."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from rich.table import Table
from tabulate import tabulate

from bench.provenance import environment


def duration(seconds: float) -> str:
    for unit, one, least in (("h", 3600, 2), ("min", 60, 2), ("s", 1, 1)):
        if seconds >= least * one:
            return f"{seconds / one:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


def machine() -> str:
    """One line: what this was measured on."""
    about = environment()
    versions = [f"{name} {version}" for name, version in about["packages"].items() if version]
    return (
        f"{about['processor']} ({about['cores']} cores, 1 thread used), {about['system']}, Python "
        f"{platform.python_version()}, {', '.join(versions)}, seaborn {metadata.version('seaborn')}"
    )


def table(headers: Sequence[str], body: Sequence[Sequence[str]]) -> Table:
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, header in enumerate(headers):
        found.add_column(header, justify="right" if i else "left", no_wrap=i > 0, max_width=40)
    for entries in body:
        found.add_row(*entries)
    return found


def pipes(headers: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    alignment = ["left", *("right" for _ in headers[1:])]
    return tabulate(body, headers, "pipe", colalign=alignment, disable_numparse=True)
