"""The charts of a leaderboard as PDF and PNG, for papers: readable in grey, and with any colour vision.

The same leaderboard gives the same bytes: no dates, no random places. What a figure says in words (how to read it, what
its intervals are) is in its metadata, the PDF's subject and the PNG's description.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import report
from bench.report import Leaderboard


def write(board: Leaderboard, root: str | Path) -> list[Path]:
    """Write <root>/figures/<board's name>-<chart's name>.pdf and .png for every chart with something to show."""
    files = {f"figures/{board.name}-{name}.{kind}": content for name, kind, content in rendered(board)}
    return report.put(root, files)


def rendered(board: Leaderboard) -> Iterator[tuple[str, str, bytes]]:
    """(chart's name, pdf or png, the file's content)."""
    from bench.figures import draw, style  # matplotlib takes a second to load: only who draws waits for it

    for chart in board.charts:
        if not chart.absent:
            with style.applied():
                figure = draw.DRAWINGS[chart.name](board, chart)
                for kind, content in style.saved(figure, f"{board.title}: {chart.title}", chart.caption):
                    yield chart.name, kind, content
