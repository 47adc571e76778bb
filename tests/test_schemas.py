"""Cells of every schema there has been are read forever; cells of one to come are refused by every command."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bench import gate, records, report, show
from bench.__main__ import main
from bench.api import SCHEMA, Record, Suite, UserError

GOLDEN = Path(__file__).parent / "golden"


def golden(schema: int) -> Path:
    return GOLDEN / f"schema-{schema}"


def by_method(schema: int) -> dict[str, Record]:
    found = records.scan(golden(schema), predictions=True)
    assert not found.warnings
    return {record.method: record for record in found.records}


def test_there_are_cells_of_every_schema_up_to_the_present_one() -> None:
    assert [path.name for path in sorted(GOLDEN.glob("schema-*"))] == [f"schema-{n}" for n in range(1, SCHEMA + 1)]
    for schema in range(1, SCHEMA + 1):
        for path in records.places(golden(schema)):
            assert json.loads((path / "cell.json").read_text())["schema"] == schema
        assert {record.status for record in by_method(schema).values()} == {"done", "failed", "not-runnable"}


def test_cells_of_schema_1_say_what_they_have_always_said() -> None:
    """Should this fail, the reader has changed and not the cells: old results would no longer be read as they were."""
    found = by_method(1)
    assert set(found) == {"rada-ttt", "tpt", "zs-lp", "maple"}
    old = found["rada-ttt"]
    assert (old.id, old.status, old.setting, old.seed) == ("5b261b01c30bd329", "done", "test-time", 1)
    assert (old.task.name, old.task.limit, old.task.train, old.task.among) == ("world-noise:3", 40, None, None)
    assert (old.backbone, old.fingerprint, old.code, old.precision) == (
        *("world-rn", "d66721e32da5cfd6", "472921b073b02abe", "fp32"),
    )
    assert old.fields["queries"] == ("image", "text", "matrix")
    assert (old.parameters, old.support, old.online, old.chosen_by) == (99072, 0, False, "validation")
    assert (len(old.classes), old.classes[3]) == (50, "asterisk")
    assert int((old.prediction == old.label).sum()) == 18
    assert old.ids[0] == "test-00000"
    assert old.cost.image_forwards == 640
    assert old.provenance["revision"] == "d713d1b532eacee01e49315b55834c34417cfc0a"
    assert (found["tpt"].status, len(found["tpt"].ids)) == ("done", 6)
    assert found["tpt"].provenance["streams"]["views"] == ("views", 1, "world-fine", "<picture>")
    broken, tied = found["zs-lp"], found["maple"]
    assert (broken.status, broken.error) == ("failed", "ZeroDivisionError: integer modulo by zero")
    assert broken.traceback.startswith("Traceback (most recent call last):")
    assert broken.fields["batch"] == 0
    assert (broken.ids, broken.prediction, broken.p_true) == ((), None, None)
    assert tied.status == "not-runnable"
    assert tied.error.startswith("learns inside the image tower's transformer")


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_whatever_reads_cells_reads_those_of_every_schema(schema: int, tmp_path: Path) -> None:
    root = golden(schema)
    for path in records.places(root):
        assert dict(next(iter(show.sections(path)))[1])["folder"] == str(path)
    assert gate.compare(root, root).exit == 0
    suite = Suite(
        "old",
        "Old",
        "domain-shift",
        ("world-fine",),
        ("zero-shot", "few-shot", "test-time"),
        "vit",
        "world-fine",
        (1,),
        limit=6,
    )
    found = report.read(root, [suite])
    assert not found.warnings
    shown = {row.title: row for board in report.leaderboards(suite, found.cells) for row in board.rows}
    assert len(shown) >= 3
    for path in records.places(root):  # and what is written again is read again as it was
        one = records.load(path)
        other = records.load(records.save(one, tmp_path))
        assert (one.id, one.task, one.cost, one.provenance) == (other.id, other.task, other.cost, other.provenance)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The smoke suite's cells of the baseline, one of which a later version wrote."""
    root = Path(__file__).parent.parent / "results" / "baseline"
    shutil.copytree(root / "cells", tmp_path / "results" / "cells")
    path = next(path for path in records.places(tmp_path / "results") if "--tpt--" in path.name)
    content = json.loads((path / "cell.json").read_text())
    (path / "cell.json").write_text(json.dumps({**content, "schema": SCHEMA + 1}))
    return tmp_path / "results"


COMMANDS = {
    "report": "report --results {root}",
    "report of one suite": "report --results {root} --suite smoke --format md",
    "compare": "compare zero-shot clip-adapter --suite smoke --results {root}",
    "compare folders": "compare {root} {root} --suite smoke",
    "show": "show {id} --results {root}",
    "run": "run --suite smoke --methods zero-shot --results {root}",
    "dry run": "run --suite smoke --methods zero-shot --results {root} --dry-run",
    "gate": "gate --baseline {root} --results {root}",
    "gate against": "gate --baseline {baseline} --results {root}",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cell_of_a_schema_to_come_is_refused_in_one_sentence_by_every_command(
    command: str, newer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in newer.rglob("*") if path.is_file()}
    (path,) = (path for path in records.places(newer) if f'"schema": {SCHEMA + 1}' in (path / "cell.json").read_text())
    baseline = Path(__file__).parent.parent / "results" / "baseline"
    words = COMMANDS[command].format(root=newer, id=path.name.rpartition("--")[2], baseline=baseline).split()
    assert main(words) == (3 if words[0] == "gate" else 2)
    said = capsys.readouterr()
    text = " ".join((said.out if words[0] == "gate" else said.err).split())
    sentence = f"written by a newer version (schema {SCHEMA + 1}, this one reads up to {SCHEMA}): update the harness or"
    assert len(re.findall(re.escape(sentence), text)) == (1 if words[0] != "gate" else text.count(sentence)) > 0
    assert path.name in text.replace(" ", "")
    assert {path: path.read_bytes() for path in newer.rglob("*") if path.is_file()} == before  # nothing was written


def test_a_cell_of_a_schema_to_come_is_refused_even_by_a_reader_of_many(newer: Path) -> None:
    with pytest.raises(UserError, match="written by a newer version"):
        records.scan(newer)
