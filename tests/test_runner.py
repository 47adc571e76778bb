"""Cells: planned once, seeded by name, resumed, failed with a reason, and the same whatever runs beside them."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import methods  # noqa: F401
from bench import provenance, records
from bench.api import METHODS, Classes, Form, NotRunnable, Part, Suite, Task
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.features import Features
from bench.runner import Cell, Runner, code_hash, places, plan, seeds_of, shard, with_imported

SUITE = Suite(
    name="small",
    title="Two variants of the photo world",
    setting="domain-shift",
    tests=("world-photo", "world-renamed"),
    admits=("zero-shot", "few-shot", "test-time", "few-shot+test-time"),
    backbone="world-rn",
    source="world-photo",
    shots=(1,),
    seeds=2,
    view_seeds=2,
    views=4,
    limit=20,
)
HALVES = replace(SUITE, name="halves", setting="base-to-new", tests=("world-photo",), source=None, seeds=1)


@dataclass(frozen=True)
class Probe:
    """A method for these tests: constant logits, or whatever `act` does."""

    act: str = "answer"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar[Any] = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar[Any] = "fixed"
    grid: ClassVar[dict] = {}

    def fit(self, support, backbone, rng):
        if self.act == "raise in fit":
            raise RuntimeError("no convergence")
        return {"w": torch.rand(3, generator=rng)}

    def predictor(self, state, classes, backbone, rng):
        def answer(batch):
            if self.act == "interrupt":
                raise KeyboardInterrupt
            if self.act == "raise":
                raise ZeroDivisionError("division by zero")
            logits = torch.zeros(len(batch.ids), len(classes)) + state["w"].sum() * torch.arange(len(classes))
            if self.act == "nan":
                logits[0, 0] = float("nan")
            return logits[:, :-1] if self.act == "shape" else logits

        return answer

    def parameters(self, backbone, classes):
        return 3


def probe(act: str = "answer", name: str = "probe") -> Form:
    return Form(name, "Probe", "probe", Probe(act))


@pytest.fixture
def runner(tiny: OpenClip, tmp_path: Path) -> Runner:
    return Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path / "results", views=4)


def answers(found: list) -> Iterator[tuple]:
    for record in found:
        yield record.id, record.prediction.tolist(), record.p_true.tolist()


def test_every_method_task_and_seed_is_planned_once() -> None:
    forms = [METHODS["zero-shot"], METHODS["view-mean"], METHODS["clip-adapter"]]
    cells = plan(SUITE, forms)
    assert len(cells) == len(set(cells)) == 2 * 1 + 2 * 2 + 2 * 2
    assert {cell.task.train for cell in cells if cell.form.name == "zero-shot"} == {None}


def test_what_holds_no_chance_has_one_replicate_and_test_time_methods_the_view_seeds() -> None:
    suite = replace(SUITE, seeds=5, view_seeds=3)
    assert list(seeds_of(METHODS["zero-shot"], suite)) == [1]
    assert list(seeds_of(METHODS["lp"], suite)) == [1, 2, 3, 4, 5]
    assert list(seeds_of(METHODS["tpt"], suite)) == [1, 2, 3]


def test_methods_that_the_suite_does_not_admit_are_not_planned() -> None:
    assert plan(replace(SUITE, admits=("zero-shot",)), [METHODS["tpt"], METHODS["lp"]]) == []


def test_a_second_run_finds_every_cell_and_computes_none(runner: Runner) -> None:
    cells = plan(SUITE, [METHODS["zero-shot"], probe()])
    first = runner.run(cells)
    assert (first.found, len(first.records)) == (0, 6)
    again = Runner(runner.features, runner.results, views=4).run(cells)
    assert again.found == 6
    assert [r.id for r in again.records] == [r.id for r in first.records]


def test_fresh_computes_again_and_gets_the_same_answers(runner: Runner) -> None:
    cells = plan(SUITE, [probe()])
    first, again = runner.run(cells), runner.run(cells, fresh=True)
    assert again.found == 0
    assert list(answers(first.records)) == list(answers(again.records))


def test_results_do_not_depend_on_which_cells_are_run_together(runner: Runner, tmp_path: Path) -> None:
    cells = plan(SUITE, [METHODS["clip-adapter"], METHODS["rada-ttt"]])
    together = dict(zip(cells, runner.run(cells).records, strict=True))
    alone = Runner(Features(runner.backbone, Cache(tmp_path / "other")), tmp_path / "alone", views=4)
    for cell in cells[::-3]:
        (record,) = alone.run([cell]).records
        assert record.id == together[cell].id
        assert np.array_equal(record.prediction, together[cell].prediction)
        assert np.allclose(record.p_true, together[cell].p_true, atol=1e-6)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("raise", "ZeroDivisionError: division by zero"),
        ("raise in fit", "RuntimeError: no convergence"),
        ("nan", "not finite"),
        ("shape", "shape"),
    ],
)
def test_a_cell_that_fails_is_a_stored_result_and_the_others_go_on(runner: Runner, act: str, says: str) -> None:
    cells = plan(SUITE, [probe(act, "broken"), probe()])
    outcome = runner.run(cells)
    assert len(outcome.failed) == 4
    stored = records.scan(runner.results).records
    assert sorted(r.status for r in stored) == ["done"] * 4 + ["failed"] * 4
    failed = next(r for r in stored if r.status == "failed")
    assert says in failed.error
    assert "Traceback" in failed.traceback


def test_a_failed_cell_is_tried_again_by_the_next_run(runner: Runner) -> None:
    cells = plan(SUITE, [probe("raise")])
    runner.run(cells)
    assert runner.run(cells).found == 0
    assert len(records.scan(runner.results).records) == 4


def test_an_interrupted_run_keeps_what_it_finished_and_goes_on_from_there(runner: Runner) -> None:
    cells = plan(SUITE, [probe(), probe("interrupt", "stopped")])
    with pytest.raises(KeyboardInterrupt):
        runner.run(cells)
    assert len(records.scan(runner.results).records) == 4
    assert runner.run(plan(SUITE, [probe()])).found == 4


def test_a_method_tied_to_its_classes_is_not_runnable_on_new_ones(runner: Runner) -> None:
    outcome = runner.run(plan(HALVES, [METHODS["lp"]]))
    status = {record.task.test.half: (record.status, record.error) for record in outcome.records}
    assert status["base"][0] == "done"
    assert status["new"] == ("not-runnable", "not transferable: tied to the classes it was fitted on")
    assert not outcome.failed


@dataclass(frozen=True)
class Tied(Probe):
    """A method that knows its classes alone: logit k of picture i is the fit's number times (i + 7 k) mod 50."""

    transfers: ClassVar[bool] = False

    def predictor(self, state, classes, backbone, rng):
        def answer(batch):
            rows = torch.arange(len(batch.ids))[:, None]
            return state["w"].sum() * ((rows + 7 * torch.arange(len(classes))) % 50)

        return answer


def test_a_method_tied_to_more_classes_than_are_asked_for_is_masked_to_those(runner: Runner) -> None:
    everything, base = Part("world-photo", "train"), Part("world-photo", "test", half="base")
    tasks = [Task(replace(base, half=half), everything, 1, 20) for half in ("all", "base")]
    form = Form("tied", "Tied", "tied", Tied())
    whole, masked = runner.run([Cell(form, task, 1) for task in tasks]).records
    assert whole.notes == ()
    assert masked.notes == ("50 logits masked to the 25 classes asked for",)
    assert masked.classes == whole.classes[:25]
    logits = (torch.arange(20)[:, None] + 7 * torch.arange(50)) % 50
    assert masked.prediction.tolist() == logits[:, :25].argmax(1).tolist()
    assert masked.prediction.tolist() != whole.prediction.tolist()
    assert masked.parameters == whole.parameters


@pytest.mark.parametrize(
    ("asked", "known", "found"),
    [
        (("b", "a"), ("a", "b", "c"), [[1], [0]]),
        (("d",), ("a", "b"), "tied to the classes it was fitted on"),
        (("a",), ("a", "b", "a"), "more than one is called 'a'"),
        (("a", "a"), ("a", "b"), "more than one is called 'a'"),
    ],
)
def test_asked_classes_are_found_by_names_that_stand_for_one_class(asked, known, found) -> None:
    few, many = (Classes(names, ("{}",), tuple(range(len(names)))) for names in (asked, known))
    if isinstance(found, list):
        assert places(few, many) == found
    else:
        with pytest.raises(NotRunnable, match=found):
            places(few, many)


def test_classes_of_one_name_are_told_apart_by_their_keys() -> None:
    known = Classes(("missile", "owl", "missile"), ("{}",), (0, 1, 2), ("n03773504", "n01622779", "n04008634"))
    asked = Classes(("missile", "owl"), ("{}",), (0, 1), ("n04008634", "n01622779"))
    assert places(asked, known) == [[2], [1]]
    assert known.permuted([2, 0]).keys == ("n04008634", "n03773504")


def test_base_and_new_are_scored_among_their_own_names(runner: Runner) -> None:
    outcome = runner.run(plan(HALVES, [METHODS["zero-shot"]]))
    names = {record.task.test.half: record.classes for record in outcome.records}
    assert not set(names["base"]) & set(names["new"])
    assert len(names["base"]) == len(names["new"]) == 25
    assert all(record.label.max() < 25 for record in outcome.records)


def test_a_need_that_the_backbone_does_not_offer_is_a_reason_and_no_failure(runner: Runner, tiny: OpenClip) -> None:
    class Blind(OpenClip):
        offers = frozenset({"features"})

    blind = Blind(tiny.model, tiny.tokenizer, "blind", tiny.transform, "w")
    other = Runner(Features(blind, runner.features.cache), runner.results, views=4)
    outcome = other.run(plan(SUITE, [METHODS["tpt"]]))
    assert {record.status for record in outcome.records} == {"not-runnable"}
    assert outcome.records[0].error == "needs text and views, which blind does not offer"


def test_an_id_changes_with_everything_that_can_change_the_number(runner: Runner, tiny: OpenClip) -> None:
    (cell, *_) = plan(SUITE, [METHODS["clip-adapter"]])
    other_backbone = OpenClip(tiny.model, tiny.tokenizer, "other", tiny.transform, "w")
    ids = [
        runner.cell_id(cell),
        runner.cell_id(replace(cell, seed=2)),
        runner.cell_id(replace(cell, form=cell.form.with_fields(ratio=0.3))),
        runner.cell_id(replace(cell, task=replace(cell.task, shots=2))),
        runner.cell_id(replace(cell, task=replace(cell.task, limit=19))),
        Runner(Features(other_backbone, runner.features.cache), runner.results, views=4).cell_id(cell),
    ]
    assert len(set(ids)) == len(ids)


def test_who_chose_the_hyper_parameters_does_not_change_the_id(runner: Runner) -> None:
    (cell, *_) = plan(SUITE, [METHODS["clip-adapter"]])
    assert runner.cell_id(cell) == runner.cell_id(replace(cell, chosen_by="user"))


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 100])
def test_shards_share_a_plan_without_cutting_a_fit_in_two(parts: int) -> None:
    cells = plan(SUITE, [METHODS[name] for name in ("zero-shot", "clip-adapter", "tpt")])
    shares = [shard(cells, part, parts) for part in range(1, parts + 1)]
    assert sorted(map(repr, itertools.chain(*shares))) == sorted(map(repr, cells))
    assert all(share == [cell for cell in cells if cell in share] for share in shares)  # the plan's order
    fits = [{(cell.form.name, cell.task.train, cell.seed) for cell in share} for share in shares]
    assert all(not a & b for a, b in itertools.combinations(fits, 2))
    assert max(map(len, fits)) - min(map(len, fits)) <= 1


def test_the_number_of_views_changes_the_id_only_of_those_that_use_them(runner: Runner) -> None:
    other = Runner(runner.features, runner.results, views=5)
    for name, same in (("zero-shot", True), ("view-mean", False)):
        (cell, *_) = plan(SUITE, [METHODS[name]])
        assert (runner.cell_id(cell) == other.cell_id(cell)) is same


def test_the_code_of_a_method_is_part_of_its_id_and_comments_are_not(tmp_path: Path) -> None:
    from bench.provenance import code_hash as hash_of

    file = tmp_path / "method.py"
    hashes = []
    for text in ("x = 1\n", '"""Doc."""\n# why\nx  =  1\n', "x = 2\n"):
        file.write_text(text)
        hashes.append(hash_of([file]))
    assert hashes[0] == hashes[1] != hashes[2]
    assert code_hash(METHODS["tpt"]) != code_hash(METHODS["coop-m4"])


def test_a_method_whose_file_is_edited_while_it_runs_is_recorded_as_the_code_that_ran(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "edited_meanwhile.py"
    file.write_text("from test_runner import Probe\n\nclass Edited(Probe):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    form = Form("edited", "Edited", "edited", importlib.import_module("edited_meanwhile").Edited())
    (cell, *_) = plan(SUITE, [form])
    before, id_ = code_hash(form), runner.cell_id(cell)
    file.write_text(file.read_text() + "    more = 1\n")
    assert code_hash(form) != before
    (record,) = runner.run([cell]).records
    assert (record.status, record.code, record.id) == ("done", before, id_)


def test_the_methods_that_a_method_imports_are_part_of_its_code(tmp_path: Path) -> None:
    folder = tmp_path / "methods"
    folder.mkdir()
    for name, text in {"a": "from methods.b import x", "b": "from methods.c import x", "c": "x = 1", "d": ""}.items():
        (folder / f"{name}.py").write_text(text)
    assert {path.stem for path in with_imported(folder / "a.py")} == {"a", "b", "c"}
    assert {path.stem for path in with_imported(folder / "d.py")} == {"d"}


def test_the_prompts_of_the_supports_card_change_the_id(runner: Runner) -> None:
    """A head may start from them, whatever the tested card says."""

    class Reworded(Runner):
        def _card(self, dataset: str):
            card = super()._card(dataset)
            return replace(card, templates=("a sketch of a {}.",)) if dataset == "world-fine" else card

    other = Reworded(runner.features, runner.results, views=4)
    cell = Cell(probe(), Task(Part("world-photo", "test"), Part("world-fine", "train"), 1, 5), 1)
    assert other.cell_id(cell) != runner.cell_id(cell)
    plain = replace(cell, task=Task(Part("world-photo", "test"), Part("world-photo", "train"), 1, 5))
    assert other.cell_id(plain) == runner.cell_id(plain)


def test_a_record_tells_cost_and_provenance(runner: Runner) -> None:
    (record, *_) = runner.run(plan(replace(SUITE, tests=("world-photo",), view_seeds=1), [METHODS["tpt"]])).records
    cost = record.cost
    assert cost.encode_ms > 0
    assert cost.adapt_ms > 0
    assert cost.predict_ms > 0
    assert cost.image_forwards == 20 * 4
    assert cost.text_forwards > 0
    assert cost.text_backwards > 0
    assert cost.gflop_per_image > 0
    assert record.support == 0
    assert record.parameters == 4 * 128
    assert record.provenance["packages"]["torch"] == torch.__version__.split("+")[0]
    assert record.provenance["threads"] == torch.get_num_threads()
    assert np.isclose(record.confidence, record.p_true).sum() == (record.prediction == record.label).sum()


def test_labelled_pictures_that_choose_a_hyper_parameter_are_counted(runner: Runner) -> None:
    suite = replace(SUITE, tests=("world-photo",), seeds=1, shots=(2,))
    used = {r.method: r.support for r in runner.run(plan(suite, [METHODS["lp"], METHODS["clip-adapter"]])).records}
    assert used == {"lp": 50 * 2 + 50 * 2, "clip-adapter": 50 * 2}


def test_a_cell_says_its_method_and_not_another(runner: Runner) -> None:
    cell = Cell(probe(), plan(SUITE, [probe()])[0].task, 1)
    (record,) = runner.run([cell]).records
    assert (record.method, record.family, record.title) == ("probe", "probe", "Probe")


def test_a_record_says_what_the_cache_had_and_where_else_encoding_was_measured(runner: Runner, tmp_path: Path) -> None:
    cell = plan(SUITE, [METHODS["clip-adapter"]])[0]
    (first,) = runner.run([cell]).records
    encoded = ("support, test transform", "support, validation, test transform", "support, 8 support crops")
    assert first.provenance["cached"] == dict.fromkeys((*encoded, "test transform"), False)
    assert first.provenance["tf32"] is False
    assert not any("encoding" in note for note in first.notes)
    root = runner.features.cache.root
    for path in root.glob("*/entry.json"):
        path.write_text(path.read_text().replace(provenance.machine("cpu"), "Abacus, 1 thread"))
    (again,) = Runner(Features(runner.backbone, Cache(root)), tmp_path / "again", views=4).run([cell]).records
    assert again.provenance["cached"] == dict.fromkeys((*encoded, "test transform"), True)
    assert again.notes.count("encoding measured on Abacus, 1 thread") == 1
    assert again.cost.encode_ms == first.cost.encode_ms
    assert again.cost.encode_support_s == first.cost.encode_support_s
