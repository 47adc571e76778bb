"""`python -m bench.world OUT.png` writes the contact sheet."""

import sys
from pathlib import Path

from bench.world import sheet

if len(sys.argv) != 2:
    raise SystemExit("usage: python -m bench.world OUT.png")
sheet(Path(sys.argv[1]))
