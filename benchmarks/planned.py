"""The plan's operations and times beside those of measured cells: python -m benchmarks.planned

The cells of results/reference are what a run of two embedded suites has measured: operations a picture (encoding and
answering) and seconds of fits. The plan is asked the same, at the rate that this machine has now.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

import methods  # noqa: F401
from bench import backbone, planning, records
from bench.api import METHODS, NotRunnable, Record
from bench.engines.setup import Setup


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planned", description="The plan beside measured cells.")
    parser.add_argument("--results", type=Path, default=Path("results/reference"), metavar="DIR")
    args = parser.parse_args(words)
    by_method: dict[str, list[Record]] = defaultdict(list)
    for record in records.scan(args.results, predictions=True).records:
        if record.status == "done":
            by_method[record.method].append(record)
    runner = Setup("world-rn", False, args.results, args.results / "cache").runner()
    image, rate = planning._image(runner), planning.here(runner)("fp32") * 1e12
    rows = []
    for name, found in by_method.items():
        form = METHODS[name].with_fields(**{k: _field(v) for k, v in found[0].fields.items()})
        views = int(found[0].provenance["views"])
        try:
            size = planning.Size(form, backbone.load("world-rn"), views or 64)
        except NotRunnable as error:
            rows.append([name, str(error)[:40], "", "", ""])
            continue
        k = len(found[0].classes)
        forwards = views if "views" in form.method.needs else int("features" in form.method.needs)
        each = (size.answers(k, 1000) - size.answers(k, 0)) / 1000 + forwards * image
        measured = fmean(r.cost.gflop_per_image for r in found) * 1e9
        row = [name, f"{measured / 1e9:.4g}", f"{each / measured:.2f}", "", ""]
        if size.learns and found[0].support:
            seconds = size.fit(k, found[0].support) / rate
            row[3:] = [f"{fmean(r.cost.fit_s for r in found):.2f}", f"{seconds:.2f}"]
        rows.append(row)
    print(f"world-rn; {rate / 1e9:.1f} GFLOP/s by its image tower on this machine")
    headers = ["method", "GFLOP a picture, measured", "planned / measured", "fit s, measured", "fit s, planned"]
    print(tabulate(rows, headers, disable_numparse=True))


def _field(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
