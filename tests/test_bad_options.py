"""Every mistake on the command line gets one sentence with its remedy: names, numbers, folders, plug-ins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mistakes import RUN, ZERO, Case, Cases, Make, empty, text_file

CASES = Cases()
case, mistakes = CASES.one, CASES.each

# -- names on the command line ----------------------------------------------------------------------------------------

mistakes(
    f"{RUN} --suite {{}}",
    ("oood", "unknown suite 'oood'", "did you mean ood"),
    ("smokey", "unknown suite 'smokey'", "did you mean smoke or finetune-smoke?"),
    ("few_shot", "unknown suite 'few_shot'", "did you mean few-shot"),
    ("''", "--suite is missing", "list suites"),
    ("' '", "unknown suite ' '", "known are"),
    ("../suites/smoke", "unknown suite '../suites/smoke'", "did you mean smoke"),
    ("/etc/passwd", "unknown suite '/etc/passwd'", "known are"),
    ("smoke.toml", "unknown suite 'smoke.toml'", "did you mean smoke?"),
    ("SMOKE", "unknown suite 'SMOKE'", "did you mean smoke or finetune-smoke?"),
    ("smoke,ood", "unknown suite 'smoke,ood'", "did you mean smoke"),
    ("'smo\x1b[31mke'", r"unknown suite 'smo\x1b[31mke'", "did you mean smoke?"),
    ("'smoke\u202e'", r"unknown suite 'smoke\u202e'", "did you mean smoke or"),
    ("x" * 10_000, "unknown suite 'xxx", "known are"),
)
case(RUN, "--suite is missing", "list suites")
mistakes(
    f"{RUN} --suite smoke --methods {{}}",
    ("rade", "unknown method 'rade'", "did you mean rada"),
    ("Zero-Shot", "unknown method 'Zero-Shot'", "did you mean zero-shot"),
    ("rada,", "unknown method ''", "known are"),
    ("''", "unknown method ''", "known are"),
    ("rada;tpt", "unknown method 'rada;tpt'", "did you mean"),
    ("'rada\ntpt'", r"unknown method 'rada\ntpt'", "did you mean"),
    ("ft", "suite 'smoke' admits", "method 'ft' is fine-tune", "choose another suite"),
)
case(f"{RUN} --suite few-shot --methods tpt", "suite 'few-shot' admits", "'tpt' is test-time", "choose another suite")
mistakes(
    f"{RUN} --suite smoke --methods rada --set {{}}",
    ("rada.alpa=1", "--set 'rada.alpa=1'", "'rada' has no field 'alpa'", "did you mean alpha?"),
    ("rada.alpha=x", "--set 'rada.alpha=x'", "of type float, as in"),
    ("rada.alpha=True", "--set 'rada.alpha=True'", "of type float"),
    ("rada.alpha=[1]", "--set 'rada.alpha=[1]'", "of type float"),
    ("rada.alpha=", "--set 'rada.alpha='", "of type float"),
    ("rada.alpha=1e999", "--set 'rada.alpha=1e999'", "finite"),
    ("rada.alpha=-1e999", "--set 'rada.alpha=-1e999'", "finite"),
    ("rada.alpha=9**9**9**9", "--set 'rada.alpha=9**9**9**9'", "of type float"),
    ("rada.alpha=" + "(" * 5000, "--set 'rada.alpha=(((", "of type float"),
    ("rada.alpha=" + "9" * 5000, "--set 'rada.alpha=999", "of type float"),
    ("rada.epochs=1.5", "--set 'rada.epochs=1.5'", "of type int"),
    ("rada.epochs=__import__('os').mkdir('ran')", "--set", "of type int"),
    ("alpha=1", "--set 'alpha=1'", "must look like rada.alpha=0.5"),
    ("rada.alpha", "--set 'rada.alpha'", "must look like rada.alpha=0.5"),
    ("''", "--set ''", "must look like rada.alpha=0.5"),
    ("coop.lr=1", "--set 'coop.lr=1'", "'coop' is not among the methods of this run", "zero-shot"),
)
mistakes(
    f"{RUN} --suite smoke --methods rada --sweep {{}}",
    ("rada.alpa=1,2", "--sweep 'rada.alpa=1'", "no field 'alpa'", "did you mean alpha?"),
    ("rada.alpha=1,x", "--sweep 'rada.alpha=x'", "of type float"),
    ("rada.alpha", "--sweep 'rada.alpha", "must look like"),
    ("tpt.lr=1", "--sweep 'tpt.lr=1'", "not among the methods of this run"),
)

# -- numbers on the command line --------------------------------------------------------------------------------------

WHOLE = "must be a whole number above 0"
for option in ("--seeds", "--text-chunk"):
    mistakes(
        f"{ZERO} {option} {{}}",
        ("0", option, WHOLE, "'0'"),
        ("-1", option),
        ("two", option, WHOLE, "'two'"),
        ("1.5", option, WHOLE, "'1.5'"),
        ("²", option, WHOLE, "'²'"),
        ("1" * 30, option, "1111"),
        ("1" * 5000, option, "1111"),
    )
mistakes(
    f"{ZERO} --shots {{}}",
    ("0", "--shots '0'", "whole numbers above 0"),
    ("-4", "--shots"),
    ("four", "--shots 'four'", "such as 1,4,16"),
    ("4,", "--shots '4,'", "such as 1,4,16"),
    ("4;8", "--shots '4;8'", "such as 1,4,16"),
    ("²", "--shots '²'", "such as 1,4,16"),
    ("9" * 5000, "--shots", "such as 1,4,16"),
)
case(f"{RUN} --suite smoke --methods lp --shots 101", "has 100 training pictures", "use --shots 100 or less")
case(f"{RUN} --suite smoke --methods lp --shots {'9' * 9}", "training pictures", "use --shots 100 or less")
mistakes(
    f"{ZERO} --shard {{}}",
    *[(word, "--shard", "i from 1 to n, such as 2/4") for word in ("0/2", "3/2", "1", "a/b", "1/0", "1/2/3", "²/3")],
    ("1/" + "9" * 5000, "--shard", "i from 1 to n"),
)
mistakes(
    f"{ZERO} --device {{}}",
    ("gpu", "unknown device 'gpu'", "use auto, cpu, cuda or cuda:N"),
    ("cuda:x", "unknown device 'cuda:x'", "use auto, cpu, cuda or cuda:N"),
    ("cuda:-1", "unknown device 'cuda:-1'", "use auto, cpu, cuda or cuda:N"),
    ("cuda:99", "device 'cuda:99'", "use --device cpu"),
    ("cuda:" + "9" * 5000, "device 'cuda:999", "cpu"),
    ("''", "unknown device ''", "use auto, cpu, cuda or cuda:N"),
)
mistakes(
    f"{ZERO} --workers {{}}",
    ("-1", "--workers", "must be a whole number from 0", "'-1'"),
    ("many", "--workers", "must be a whole number from 0", "'many'"),
    ("1.5", "--workers", "must be a whole number from 0"),
    ("1" * 9, "--workers", "must be a whole number from 0"),
)
for option in ("--cache-limit", "--older-than"):
    command = ZERO if option == "--cache-limit" else "cache clear --results @/results"
    mistakes(
        f"{command} {option} {{}}",
        *[(word, option, "must be a number above 0") for word in ("0", "-1", "nan", "inf", "much", "1e999")],
    )
case(f"{ZERO} --cache-limit 0.00001", "--cache-limit allows 1e-05", "raise it")
mistakes(
    f"{ZERO} {{}}",
    ("--precision fp64", "--precision", "invalid choice: 'fp64'", "bf16"),
    ("--on-bad-image maybe", "--on-bad-image", "invalid choice: 'maybe'", "skip"),
    ("--sede 1", "unrecognized arguments: --sede"),
    ("--seeds", "--seeds", "expected one argument"),
)
case("", "required: COMMAND")
case("rum", "invalid choice: 'rum'", "run")
case("list everything", "invalid choice: 'everything'", "datasets")
case("cache", "required: ACTION")
case("data", "required: ACTION")

# -- folders ----------------------------------------------------------------------------------------------------------


case(
    "run --suite smoke --methods zero-shot --results @/file",
    "results folder",
    "@/file",
    "use --results DIR",
    make=text_file,
)
case(
    "run --suite smoke --methods zero-shot --results @/file/below", "@/file/below", "use --results DIR", make=text_file
)
case("run --suite smoke --methods zero-shot --results /proc/none", "/proc/none", "use --results DIR")
case(f"run --suite smoke --methods zero-shot --results @/{'r' * 300}", "File name too long", "use --results DIR")
case(f"{ZERO} --cache @/file", "cache folder @/file", "use --cache DIR", make=text_file)
case(f"{RUN} --suite pacs", "data set pacs needs PACS below the data root", "--data-root")
case(f"{RUN} --suite pacs --data-root @/none", "@/none/PACS is not a folder", "data set pacs")
case(f"{RUN} --suite pacs --data-root @/file", "@/file/PACS is not a folder", make=text_file)
case(f"{RUN} --suite pacs --data-root @/empty", "@/empty/PACS is not a folder", make=empty)
case("cache list --cache @/none", "no cache folder @/none", "--cache DIR")
case("cache list --cache @/file", "no cache folder @/file", "--cache DIR", make=text_file)
case("cache clear all --results @/none", "no cache folder @/none/cache", "--results DIR")
case("cache clear --cache @/empty", "say what to clear", "--older-than", make=empty)
case("cache clear pets --cache @/empty", "holds no 'pets'", "known are", make=empty)
case("cache clear ../here --cache @/empty", "holds no '../here'", "known are", make=empty)
case("data check pets --root @/empty", "unknown data set 'pets'", "did you mean", make=empty)
case("data check pacs --root @/none", "data root @/none is not a folder", "name the one")
case("data check all --root @/empty", "@/empty holds the folder of no data set", "data list", make=empty)
case("data check pacs --root @/empty", "pacs: not there", "PACS", make=empty, code=1)
case("data check pacs", "required: --data-root")
case("data fetch pacz --root @/empty", "unknown data set 'pacz'", "did you mean pacs?", make=empty)
case("data fetch pacs --root @/empty", "no program may fetch pacs", make=empty, code=1)
case("data fetch dtd --root @/file", "data root @/file cannot be written", make=text_file)
case("list datasets --format tex", "invalid choice: 'tex'")

# -- plug-ins ---------------------------------------------------------------------------------------------------------


def plugin(text: str | bytes) -> Make:
    return lambda at: (at / "mine.py").write_bytes(text if isinstance(text, bytes) else text.encode())


PLUGIN = f"{RUN} --suite smoke --methods mine --plugin @/mine.py"
mistakes(
    PLUGIN,
    ("@register('mine'\n", "method 'mine' is of the plug-in mine.py", "left out", "line 1 of mine.py: SyntaxError"),
    ("# @register('mine')\nimport nothing_like_this", "line 2 of mine.py: ModuleNotFoundError", "left out"),
    ("# @register('mine')\nraise SystemExit(0)", "line 2 of mine.py: SystemExit", "left out"),
    ("# @register('mine')\n1 / 0", "line 2 of mine.py: ZeroDivisionError: division by zero", "left out"),
    ("# @register('mine')\ndef f(): f()\nf()", "RecursionError", "left out"),
    ("# @register('mine')\nraise ValueError('a\\nb\\x1b[31mc')", "line 2 of mine.py: ValueError: a", "left out"),
    ("# @register('mine')", "registers no method", "decorate a class with"),
    (
        "from bench.api import register\n@register('mine', title='M')\nclass M: pass",
        "'mine' does not declare needs",
        "left out",
    ),
    (b"# @register('mine')\n\xff\xfe\x00", "method 'mine' is of the plug-in mine.py", "left out"),
    (b"# @register('mine')\n\x00", "method 'mine' is of the plug-in mine.py", "null bytes"),
    make=plugin,
)
case(f"{ZERO} --plugin @/none.py", "--plugin @/none.py is no Python file", "name the file")
case(f"{ZERO} --plugin @/empty", "--plugin @/empty is no Python file", "name the file", make=empty)
case(f"{ZERO} --plugin @/file", "--plugin @/file is no Python file", "name the file", make=text_file)
case("contract nothing", "unknown method 'nothing'", "known are")
case("contract rada --set rada.alpha=x", "--set 'rada.alpha=x'", "of type float")


@pytest.mark.parametrize("one", CASES, ids=CASES.named)
def test_a_mistake_is_one_sentence_with_its_remedy_and_nothing_is_left_behind(one: Case, answered) -> None:
    answered(one)


def test_the_watcher_sees_what_is_written_made_moved_and_removed(tmp_path: Path, touched: list[str]) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").read_text()
    (tmp_path / "b").mkdir()
    os.rename(tmp_path / "a", tmp_path / "c")
    os.close(os.open(tmp_path / "d", os.O_CREAT))
    (tmp_path / "c").unlink()
    assert [Path(path).name for path in touched] == ["a", "b", "a", "c", "d", "c"]
