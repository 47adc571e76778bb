"""Tables from stored cells: `leaderboard` builds one as plain data, the writers say it in several formats.

Nothing is computed here that the cells do not hold, so the same cells give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import records
from bench.api import UserError
from bench.report.across import leaderboards
from bench.report.cells import Cell, Reading, has_cells, read, reduced
from bench.report.compare import compare, compare_folders
from bench.report.leaderboard import leaderboard
from bench.report.model import Leaderboard
from bench.report.paper import has_layout, paper
from bench.report.published import published
from bench.report.terminal import as_terminal, show
from bench.report.writers import as_csv, as_latex, as_markdown

__all__ = [
    "FORMATS",
    "Cell",
    "Leaderboard",
    "Reading",
    "compare",
    "compare_folders",
    "has_cells",
    "has_layout",
    "leaderboard",
    "leaderboards",
    "paper",
    "published",
    "put",
    "read",
    "reduced",
    "render",
    "show",
    "write",
]

FORMATS: dict[str, Callable[[Leaderboard], str]] = {
    "terminal": as_terminal,
    "md": as_markdown,
    "csv": as_csv,
    "tex": as_latex,
}


def render(board: Leaderboard, format: str) -> str:
    """The leaderboard as the text of one of FORMATS."""
    return FORMATS[format](board)


def write(board: Leaderboard, root: str | Path, formats: Sequence[str] = ("md", "csv", "tex")) -> list[Path]:
    """Write <root>/tables/<board's name>.<format>, each whole or not at all; where they are."""
    return put(root, {f"tables/{board.name}.{format}": render(board, format).encode() for format in formats})


def put(root: str | Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write these files below <root>, each whole or not at all; where they are."""
    paths = {Path(root, name): content for name, content in files.items()}
    try:
        for path, content in paths.items():
            records.make_folder(path.parent)
            records.write(path, content)
    except OSError as error:
        raise UserError(
            f"the results folder {root} cannot be written ({error.strerror or error}): mend that or name another one."
        ) from error
    return list(paths)
