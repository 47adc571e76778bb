"""Methods from outside, as users bring them: a file by --plugin, an installed package, and the page about both."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import methods  # noqa: F401
from bench.__main__ import main
from bench.api import METHODS, Form, UserError
from bench.contract import CHECKS
from bench.plugins import Plugin, plugged, refuse_left_out
from bench.runner import code_hash, with_imported

HERE = Path(__file__).parent.parent
PAGE = (HERE / "docs" / "methods.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.split("\n")[0].removeprefix("# "): text.split("\n", 1)[1] for kind, text in BLOCKS if kind == "python"}
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
GOOD = FILES["class_means.py"]


def bench(*words: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """path: a folder of installed packages beside the others."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "250", "NO_COLOR": "1"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, env=environment)


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def left_out(*files: Path) -> list[Plugin]:
    with plugged(files) as found:
        return found


# -- a file -----------------------------------------------------------------------------------------------------------


def test_a_files_forms_stand_behind_the_others_and_go_with_the_block(tmp_path: Path) -> None:
    before = list(METHODS)
    with plugged([written(tmp_path, GOOD)]) as found:
        assert found == []
        assert list(METHODS) == [*before, "class-means"]
    assert list(METHODS) == before


def test_a_form_says_which_file_brought_it_by_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    listed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    with plugged([path]):
        assert METHODS["class-means"].origin == f"mine.py sha256 {listed}"
        assert METHODS["zero-shot"].origin == ""


def test_a_file_that_was_edited_is_read_again(tmp_path: Path) -> None:
    """Though its size is the same, and its time of change may be."""
    path = written(tmp_path, GOOD)
    with plugged([path]):
        first = METHODS["class-means"]
    time = path.stat()
    written(tmp_path, GOOD.replace("Class means", "Class MEANS"))
    os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))
    with plugged([path]):
        second = METHODS["class-means"]
    assert (first.title, second.title) == ("Class means", "Class MEANS")
    assert first.origin != second.origin
    assert list(tmp_path.iterdir()) == [path], "nothing is written beside the user's file"


def test_a_file_named_twice_is_one_plug_in(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert left_out(path, tmp_path / "." / "mine.py") == []


def test_what_a_file_prints_does_not_mix_with_what_the_harness_prints(tmp_path: Path, capsys) -> None:
    assert left_out(written(tmp_path, GOOD + "\nprint('hello')\n")) == []
    assert capsys.readouterr() == ("", "hello\n")


END = len(GOOD.splitlines()) + 1
CLASS = "@dataclass(frozen=True)"
BAD = [
    (
        GOOD + "import nothing_of_the_kind\n",
        f"line {END} of mine.py: ModuleNotFoundError: No module named ",
    ),
    (GOOD + "\nfor k in range(3):\n    1 / (2 - k)\n", "of mine.py: ZeroDivisionError: division by zero"),
    (GOOD.replace("def fit(", "def fit"), "of mine.py: SyntaxError"),
    (GOOD + "\nraise SystemExit(3)\n", "of mine.py: SystemExit: 3"),
    (GOOD + "\nraise ValueError('first line.\\nsecond line')\n", "ValueError: first line."),
    (GOOD.replace('"class-means"', '"tpt"'), "two methods are registered as 'tpt': choose another name"),
    (GOOD.replace('    setting: ClassVar = "few-shot"\n', ""), "'class-means' does not declare setting"),
    (
        GOOD.replace('ClassVar = "few-shot"', 'ClassVar = "one-shot"'),
        "setting 'one-shot', which is none of zero",
    ),
    (GOOD.replace(CLASS, "").replace("answering(0.5)", "0.5"), "'class-means' is no dataclass"),
    ("x = 1\n", "registers no method; decorate a class with @register"),
    ("", "registers no method"),
    ("\0", "null bytes"),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=[says.split(":")[-1].strip()[:40] for _, says in BAD])
def test_a_file_that_fails_is_left_out_whole_and_the_rest_goes_on(text: str, says: str, tmp_path: Path) -> None:
    before, good = dict(METHODS), written(tmp_path, GOOD.replace('"class-means"', '"other"'), "good.py")
    with plugged([written(tmp_path, text), good]) as found:
        (plugin,) = found
        assert list(METHODS) == [*before, "other"]
        assert all(METHODS[name] is before[name] for name in before)
    assert plugin.warning.startswith("plug-in mine.py is left out: ")
    assert says in plugin.warning
    assert "\n" not in plugin.warning
    assert plugin.warning.endswith(".")
    assert not plugin.warning.endswith("..")


def test_a_file_cannot_take_a_name_past_the_registry(tmp_path: Path) -> None:
    before = METHODS["tpt"]
    sly = GOOD + '\nfrom bench.api import METHODS\nMETHODS["tpt"] = METHODS["class-means"]\n'
    with plugged([written(tmp_path, sly)]):
        assert METHODS["tpt"] is before
        assert "class-means" in METHODS


@pytest.mark.parametrize("name", ["nowhere.py", "notes.txt", "folder"])
def test_a_file_that_is_none_is_a_mistake_of_the_user(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is no Python file"):
        left_out(tmp_path / name)


def test_who_asks_for_a_method_of_a_plug_in_that_is_left_out_gets_the_reason(tmp_path: Path) -> None:
    found = left_out(written(tmp_path, GOOD + "import nothing_of_the_kind\n"))
    with pytest.raises(UserError, match=r"'class-means' is of the plug-in mine\.py, which is left out: line"):
        refuse_left_out("class-means", False, found)
    refuse_left_out("tpt", True, found)


def test_a_taken_name_is_refused_to_who_brought_the_file_and_stays_with_its_owner_otherwise(tmp_path: Path) -> None:
    (mine,) = left_out(written(tmp_path, GOOD.replace('"class-means"', '"tpt"')))
    with pytest.raises(UserError, match=r"'tpt' is of the plug-in mine\.py"):
        refuse_left_out("tpt", True, [mine])
    refuse_left_out("tpt", True, [Plugin("package 1.0", failure=mine.failure, names=mine.names)])


# -- what counts as the code of a form --------------------------------------------------------------------------------


def form_of(path: Path) -> Form:
    with plugged([path]):
        return METHODS["class-means"]


def test_the_code_of_a_files_form_is_the_file_and_what_it_imports_of_the_methods(tmp_path: Path) -> None:
    first = code_hash(form_of(written(tmp_path, GOOD, "a.py")))
    written(tmp_path, "is this code?", "_notes.py")
    assert code_hash(form_of(tmp_path / "a.py")) == first, "a file beside it is not its code"
    edited = GOOD.replace("1 - self.share", "2 - self.share")
    assert code_hash(form_of(written(tmp_path, edited, "a.py"))) != first
    sharing = written(tmp_path, GOOD + "\nfrom methods.coop import CoOp\n", "b.py")
    assert {path.stem for path in with_imported(sharing)} == {"b", "coop", "_training"}


def test_a_package_is_followed_through_its_relative_imports(tmp_path: Path) -> None:
    written(tmp_path, "from .b import x\nfrom . import c\n", "a.py")
    for name in "bcd":
        written(tmp_path, "x = 1\n", f"{name}.py")
    assert {path.stem for path in with_imported(tmp_path / "a.py")} == {"a", "b", "c"}


# -- through the command line -----------------------------------------------------------------------------------------


def test_a_broken_file_does_not_take_a_command_down_and_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = written(tmp_path, GOOD), written(tmp_path, "1 / 0", "bad.py")
    monkeypatch.setenv("COLUMNS", "250")
    assert main(["list", "methods", "--plugin", str(good), "--plugin", str(bad)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "plug-in bad.py is left out: line 1 of bad.py: ZeroDivisionError: division by zero.\n"
    assert "class-means" in printed.out


@pytest.mark.parametrize("command", ["run", "list", "tune", "report", "compare", "gate", "contract"])
def test_every_command_that_reads_the_registry_takes_plug_ins(command: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--plugin FILE" in capsys.readouterr().out


def test_asking_for_a_method_of_a_broken_file_ends_with_the_reason(tmp_path: Path) -> None:
    bad = written(tmp_path, GOOD + "import nothing_of_the_kind\n")
    words = ("run", "--methods", "class-means", "--suite", "smoke", "--results", tmp_path / "results")
    done = bench(*words, "--plugin", bad, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    reason = f"left out: line {END} of mine.py: ModuleNotFoundError: No module named 'nothing_of_the_kind'."
    warning, error = done.stderr.splitlines()
    assert warning == f"plug-in mine.py is {reason}"
    assert error == f"error: method 'class-means' is of the plug-in mine.py, which is {reason}"
    assert not (tmp_path / "results").exists()


def test_the_contract_of_a_form_that_breaks_it_ends_with_1_and_the_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    biased = GOOD.replace("@ weight.T  #", "@ weight.T + self.share * weight.new_ones(len(weight)).cumsum(0)  #")
    words = ("contract", "class-means", "--plugin", str(written(tmp_path, biased)))
    monkeypatch.setenv("COLUMNS", "250")
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert re.search(r"classes_permute .* broken", printed)
    assert "classes_permute: the logits of permuted classes are not the permuted logits: by up to 1.5, on" in printed
    assert "23 of 24 promises kept" in printed
    main([*words, "--set", "class-means.share=0"])
    assert re.search(r"classes_permute .* kept", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("contract", "class-mean"), "did you mean class-means"),
        (("contract", "class-means", "--set", "class-means.shar=1"), "did you mean share"),
        (("contract", "class-means", "--plugin", "nowhere.py"), "is no Python file"),
        (("contract",), "required"),
    ],
)
def test_a_mistake_in_the_command_ends_with_2(words: Sequence[str], says: str, tmp_path: Path, capsys) -> None:
    try:
        code = main([*words, "--plugin", str(written(tmp_path, GOOD))])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert says in capsys.readouterr().err


# -- an installed package ---------------------------------------------------------------------------------------------

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "class-means"
version = "2.5"

[project.entry-points."vlm_bench.methods"]
class-means = "class_means.ours"

[tool.setuptools]
packages = ["class_means"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed a package with an entry point; its method is in two modules."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "class_means").mkdir()
    written(source, PYPROJECT, "pyproject.toml")
    written(source / "class_means", "", "__init__.py")
    written(source / "class_means", "SHARE = 0.5\n", "shared.py")
    text = GOOD.replace("from bench.api", "from .shared import SHARE\nfrom bench.api").replace("(0.5)", "(SHARE)")
    written(source / "class_means", text, "ours.py")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(target), str(source)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return target


def test_the_methods_of_an_installed_package_are_there_and_cells_name_its_version(
    installed: Path, tmp_path: Path
) -> None:
    done = bench("run", "--methods", "class-means", "--suite", "smoke", cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stderr
    assert "Class means" in done.stdout
    assert brought(tmp_path) == {"class-means": "class-means 2.5", "zero-shot": "vlm-bench 0.1.0"}


def brought(folder: Path) -> dict[str, str]:
    """What each stored cell's method came from."""
    cells = [json.loads(path.read_text()) for path in (folder / "results" / "cells").glob("*/cell.json")]
    return {cell["method"]: cell["provenance"]["method"] for cell in cells}


def test_a_package_that_fails_is_named_with_its_version_and_all_others_go_on(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    (folder / "broken").mkdir(parents=True)
    written(folder / "broken", "from broken.rest import nothing\n", "__init__.py")
    written(folder / "broken", "\n\nimport nothing_of_the_kind\n", "rest.py")
    info = folder / "broken-0.3.dist-info"
    info.mkdir()
    written(info, "Metadata-Version: 2.1\nName: broken\nVersion: 0.3\n", "METADATA")
    written(info, "[vlm_bench.methods]\nbroken = broken\nlost = no_module\n", "entry_points.txt")
    both = Path(f"{folder}{os.pathsep}{installed}")
    done = bench("list", "methods", cwd=tmp_path, path=both)
    assert done.returncode == 0
    assert "class-means" in done.stdout
    assert done.stderr.splitlines() == [
        "plug-in broken 0.3 (broken) is left out: line 3 of rest.py: ModuleNotFoundError: No module named "
        "'nothing_of_the_kind'.",
        "plug-in broken 0.3 (no_module) is left out: ModuleNotFoundError: No module named 'no_module'.",
    ]


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_lists_every_check_with_its_promise() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.split("## The contract")[1].split("## A row")[0], re.MULTILINE)
    assert rows == [(check.name, check.says) for check in CHECKS.values()]


@pytest.mark.slow
def test_the_page_leads_from_an_empty_folder_to_a_row_of_the_leaderboard(tmp_path: Path) -> None:
    for name, text in FILES.items():
        written(tmp_path, text, name)
    printed = []
    for command in COMMANDS:
        words = command.split()
        assert words[0] == "python"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "250", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    (said,) = re.findall(r"`(class-means: \d+ of \d+ promises kept.)`", PAGE)
    assert said in printed[0]
    assert "24 passed" in printed[1]
    assert re.search(r"^Class means +\d", printed[2], re.MULTILINE)
    assert "Class means" in (tmp_path / "results" / "tables" / "smoke.md").read_text()
    digest = subprocess.run(["sha256sum", tmp_path / "class_means.py"], capture_output=True, text=True, check=True)
    assert brought(tmp_path)["class-means"] == f"class_means.py sha256 {digest.stdout.split()[0]}"
