"""Coverage-guided fuzzing of everything that reads files of others: `python -m benchmarks.fuzz READER --seconds 60`.

Needs atheris (`pip install atheris`), which watches which branches of ours an input reaches and keeps those that reach
new ones. Each input must give a value or a UserError; any other exception ends the run, and the input stays in
`crash-*`. tests/test_fuzz.py asks the same of inputs that hypothesis makes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import UserError

Read = Callable[[Path, bytes], object]


def readers(work: Path) -> dict[str, tuple[Read, list[bytes]]]:
    """By name: what reads an input (a folder, the bytes), and inputs to begin with."""
    from safetensors.numpy import save

    from bench import cards, readers, records, report
    from bench.backbone import checkpoint
    from bench.readers import pickles, split_file
    from bench.report.published import home

    own = cards.home()
    (work / "datasets" / "suites").mkdir(parents=True)

    def card(at: Path, raw: bytes) -> object:
        (at / "datasets" / "fuzz.toml").write_bytes(raw)
        return cards.card("fuzz", at / "datasets")

    def suite(at: Path, raw: bytes) -> object:
        (at / "datasets" / "suites" / "fuzz.toml").write_bytes(raw)
        return cards.suite("fuzz", at / "datasets")

    def file(name: str, read: Callable[[Path], object]) -> Read:
        def reads(at: Path, raw: bytes) -> object:
            (at / name).write_bytes(raw)
            return read(at / name)

        return reads

    def cell(at: Path, raw: bytes) -> object:
        """The first four bytes say where cell.json ends and predictions.npz begins."""
        (at / "cell").mkdir(exist_ok=True)
        end = 4 + int.from_bytes(raw[:4], "little")
        (at / "cell" / "cell.json").write_bytes(raw[4:end])
        (at / "cell" / "predictions.npz").write_bytes(raw[end:])
        return records.load(at / "cell")

    def batch(at: Path, raw: bytes) -> object:
        with contextlib.suppress(Exception):  # its caller answers to each with a sentence; what counts is what runs
            return pickles.loads(raw)

    x, y = np.eye(3, 4, dtype=np.float32), np.arange(3)
    arrays = {"text": x, "test_x": x, "test_y": y, "train1_x": x, "train1_y": y}
    stream = io.BytesIO()
    np.savez(stream, names=np.array(["ant", "bee", "cat"]), **arrays)  # type: ignore[arg-type]
    tensors = save(arrays, {"names": '["ant", "bee", "cat"]'})
    split = {name: [["a.jpg", 0, "cat"]] if name == "test" else [] for name in ("train", "val", "test")}
    stored = []
    for path in records.places(home().parent / "baseline")[:3]:
        about = (path / "cell.json").read_bytes()
        stored.append(len(about).to_bytes(4, "little") + about + (path / "predictions.npz").read_bytes())
    return {
        "card": (card, [path.read_bytes() for path in own.glob("*.toml") if path.stat().st_size < 3000]),
        "suite": (suite, [path.read_bytes() for path in (own / "suites").glob("*.toml")]),
        "published": (file("published.toml", report.published), [home().read_bytes()[:3000].rsplit(b"[[", 1)[0]]),
        "split": (file("split.json", split_file.parse), [json.dumps(split).encode()]),
        "cell": (cell, stored),
        "bundle": (file("fuzz.npz", readers.open_bundle), [stream.getvalue()]),
        "tensors": (file("fuzz.safetensors", readers.open_bundle), [tensors]),
        "weights": (file("fuzz.safetensors", checkpoint.read), [tensors]),
        "pickle": (batch, [b"\x80\x02}q\x00U\x06labelsq\x01]q\x02K\x01as."]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reader", help="card, suite, published, split, cell, bundle, tensors, weights or pickle")
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        print("error: benchmarks.fuzz needs atheris: pip install atheris.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with atheris.instrument_imports(include=["bench"]):
            known = readers(work)
        if args.reader not in known:
            print(f"error: there is no reader {args.reader!r}: name one of {', '.join(known)}.", file=sys.stderr)
            return 2
        read, seeds = known[args.reader]
        corpus = work / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)

        def one(raw: bytes) -> None:
            with contextlib.suppress(UserError):
                read(work, raw)

        limits = [f"-max_total_time={args.seconds}", "-rss_limit_mb=4096", "-timeout=20", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
        atheris.Fuzz()  # which ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
