"""Results and caches in object stores: a real S3 server, and what it holds after all that can go wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import records
from bench.__main__ import main
from bench.api import UserError
from bench.cache import Cache
from bench.store import open_store

WORDS = ["run", "--suite", "smoke", "--methods", "lp"]


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_MIRRORS", str(tmp_path / "mirrors"))
    return tmp_path / "mirrors"


def cells(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("cells/*/*")}


def test_a_run_stores_its_cells_and_tables_and_another_machine_goes_on_from_them(
    bucket: str, mirrors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{bucket}/one"
    assert main([*WORDS, "--results", url]) == 0
    assert f"4 cells in {url}/cells: 0 found, 4 run." in capsys.readouterr().out
    store = open_store(url)
    first = cells(store.root)
    assert len(store.cells.folders()) == 4
    assert store.files.exists(f"{store.path}/tables/smoke.md")
    shutil.rmtree(mirrors)  # another machine has nothing
    assert main([*WORDS, "--results", url]) == 0
    assert "4 found, 0 run" in capsys.readouterr().out
    assert cells(open_store(url).root) == first


def test_what_one_machine_has_encoded_the_next_fetches(bucket: str, mirrors: Path) -> None:
    made = []

    def fill(out: np.ndarray, first: int) -> None:
        made.append(first)
        out[:] = 7

    for _ in range(2):
        store = open_store(f"{bucket}/cache")
        entry = Cache(store.root, store=store).array({"what": "sevens"}, (3, 2), fill)
        assert entry.array.tolist() == [[7, 7]] * 3
        del entry
        shutil.rmtree(mirrors)
    assert made == [0]
    store.drop(next(iter(store.folders())))
    assert store.folders() == {}


def test_a_cell_whose_last_file_is_missing_is_no_cell(bucket: str, mirrors: Path) -> None:
    url = f"{bucket}/torn"
    assert main([*WORDS, "--results", url]) == 0
    store = open_store(url)
    name = next(iter(store.cells.folders()))
    store.files.rm_file(f"{store.cells.path}/{name}/cell.json")
    shutil.rmtree(mirrors)
    store.fetch_results()
    assert [place.name for place in records.places(store.root)] == sorted(store.cells.folders())
    assert name not in store.cells.folders()


def test_a_cell_that_could_not_be_copied_is_copied_by_the_next_command(bucket: str, mirrors: Path) -> None:
    url = f"{bucket}/late"
    assert main([*WORDS, "--results", url]) == 0
    store = open_store(url)
    gone, failed, *others = sorted(store.cells.folders())
    store.cells.drop(gone)
    stale = json.dumps({"status": "failed"}).encode()  # an earlier attempt, which the copy would have replaced
    store.files.pipe_file(f"{store.cells.path}/{failed}/cell.json", stale)
    store.fetch_results()
    assert sorted(store.cells.folders()) == [gone, failed, *others]
    assert json.loads(store.files.cat_file(f"{store.cells.path}/{failed}/cell.json"))["status"] == "done"


def test_names_in_a_store_cannot_lead_out_of_the_folder(bucket: str, mirrors: Path) -> None:
    store = open_store(f"{bucket}/hostile")
    store.files.pipe_file(f"{store.path}/cells/../cell.json", b"{}")
    store.files.pipe_file(f"{store.path}/cells/.tmp-x/cell.json", b"{}")
    store.fetch_results()
    assert [path for path in mirrors.rglob("*") if path.is_file()] == []


def test_a_store_that_does_not_answer_is_one_sentence_and_nothing_finished_is_lost(
    bucket: str, mirrors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*WORDS, "--results", "s3://no-such-bucket-here/x"])
    assert code == 2
    assert "s3://no-such-bucket-here/x" in " ".join(capsys.readouterr().err.split())


def test_an_unknown_kind_of_store_is_named(mirrors: Path) -> None:
    with pytest.raises(UserError, match="nonsense://x/y cannot be used"):
        open_store("nonsense://x/y")
