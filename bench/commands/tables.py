"""What the tables of several commands have in common."""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes in units that people read."""
    unit, name = next(pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= pair[0] or pair[1] == "kB")
    return f"{count / unit:.1f} {name}"
