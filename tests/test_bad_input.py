"""Every mistake and every hostile file gets one sentence with its remedy, and nothing is written that nobody asked for.

Each case is a command line as a user types it, in a folder of its own. What Python opens for writing, makes, moves or
removes is watched by an audit hook: outside the case's folder there may be nothing, and inside, in the end, nothing new
but empty folders.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shlex
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import folder as family
from generated import cell
from PIL import Image
from safetensors.torch import save_file

from bench import cards, records
from bench.__main__ import main
from bench.api import Part, Task

HERE = Path(__file__).parent.parent
Make = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """words: the command, @ being the case's folder; says: what the sentence must hold; make: what lies there."""

    words: str
    says: tuple[str, ...]
    make: Make | None = None
    code: int = 2


CASES: list[Case] = []


def case(words: str, *says: str, make: Make | None = None, code: int = 2) -> None:
    CASES.append(Case(words, says, make, code))


def mistakes(template: str, *rows: tuple[Any, ...], make: Callable[[Any], Make] | None = None, code: int = 2) -> None:
    """A case a row: what takes the template's place ({}) or is made, and the words that must be said."""
    for first, *says in rows:
        case(template if make else template.format(first), *says, make=make(first) if make else None, code=code)


# -- names on the command line ----------------------------------------------------------------------------------------

RUN = "run --results @/results --workers 0"
ZERO = f"{RUN} --methods zero-shot --suite smoke"

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


def text_file(at: Path) -> None:
    (at / "file").write_text("a file")


def empty(at: Path) -> None:
    (at / "empty").mkdir()


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

# -- cards and suites -------------------------------------------------------------------------------------------------

TOY = {
    "name": '"toy"',
    "title": '"Toy"',
    "reader": '"class-folders"',
    "templates": '["a photo of a {}."]',
    "licence": '"MIT"',
    "source": '"the toy shop"',
    "folder": '"toy"',
    "classes": '["cat", "dog"]',
}
QUICK = {
    "name": '"quick"',
    "title": '"Quick"',
    "setting": '"few-shot"',
    "tests": '["toy"]',
    "admits": '["zero-shot", "few-shot"]',
    "backbone": '"world-rn"',
    "shots": "[1]",
    "seeds": "1",
}


def toml(table: dict[str, str], **changes: str | None) -> str:
    """TOML of the table with other values; None leaves a key out."""
    return "".join(f"{key} = {value}\n" for key, value in (table | changes).items() if value is not None)


def home(card: str | bytes = toml(TOY), suite: str | bytes = toml(QUICK)) -> Make:
    """A folder of cards with one data set and one suite."""

    def make(at: Path) -> None:
        (at / "datasets" / "suites").mkdir(parents=True)
        for name, text in (("toy.toml", card), ("suites/quick.toml", suite)):
            (at / "datasets" / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def carded(changes: dict[str, str | None] | str | bytes) -> Make:
    return home(toml(TOY, **changes) if isinstance(changes, dict) else changes)


def suited(changes: dict[str, str | None] | str | bytes) -> Make:
    return home(suite=toml(QUICK, **changes) if isinstance(changes, dict) else changes)


mistakes(
    f"{RUN} --suite quick --data-root @/data",
    ({"clases": '["cat"]'}, "toy.toml", "unknown key 'clases'", "did you mean classes"),
    ({"title": None}, "toy.toml", "title is missing", "add it"),
    ({"title": "3"}, "toy.toml", "title must be a text", "not 3"),
    ({"title": '"a\\u001b[31m"'}, "toy.toml", "title must be a text", r"\x1b"),
    ({"name": '"other"'}, "toy.toml", "name is 'other'", "rename the file to other.toml"),
    ({"name": '"../toy"'}, "toy.toml", "name must be a name of letters", "'../toy'"),
    (
        {"reader": '"class-folder"'},
        "toy.toml",
        "unknown reader 'class-folder'",
        "did you mean class-folders or domain-folders?",
    ),
    ({"reader": "[]"}, "toy.toml", "reader must be one of", "not []"),
    ({"templates": '["a photo."]'}, "toy.toml", "templates must be a list", "one {}"),
    ({"templates": '["a {0.__class__}"]'}, "toy.toml", "templates must be a list"),
    ({"templates": '["a {}", "a {}"]'}, "toy.toml", "templates must be a list of different texts"),
    ({"folder": '"../../etc"'}, "toy.toml", "folder must be a folder below the data root"),
    ({"folder": '"/etc"'}, "toy.toml", "folder must be a folder below the data root"),
    ({"folder": '"~/toy"'}, "toy.toml", "folder must be a folder below the data root"),
    ({"classes": '["cat", 3]'}, "toy.toml", "classes must be a list of class names"),
    ({"classes": '["cat", ""]'}, "toy.toml", "classes must be a list of class names"),
    ({"classes": '["cat", " "]'}, "toy.toml", "classes must be a list of class names"),
    ({"classes": "[]"}, "toy.toml", "classes must be a list of class names"),
    ({"counts": "{ test = -1 }"}, "toy.toml", "counts must be a table of whole numbers above 0"),
    ({"counts": "{ tset = 1 }"}, "toy.toml", "unknown key 'tset' in counts", "did you mean test"),
    ({"counts": "{ classes = 3 }"}, "toy.toml", "counts.classes is 3", "mend one of them"),
    ({"options": "{ bordr = 1 }"}, "toy.toml", "options: unknown key 'bordr'", "did you mean border or folders?"),
    ({"options": '{ splits = { test = "/etc" } }'}, "toy.toml", "options: splits must be a table"),
    ({"obtain": "{}"}, "toy.toml", "obtain: how is missing", "add it"),
    (toml(TOY) + 'title = "again"\n', "toy.toml", "is not a TOML file", "Cannot overwrite a value"),
    (b"\xff\xfe", "toy.toml", "is not a TOML file"),
    (b"a = [" * 5000, "toy.toml", "is not a TOML file"),
    (b"a" + b".a" * 2_000 + b" = 1", "toy.toml", "unknown key 'a'", "known are"),
    ("", "toy.toml", "name is missing", "add it"),
    make=carded,
)
mistakes(
    f"{RUN} --suite quick --data-root @/data",
    ({"setting": '"one-shot"'}, "quick.toml", "setting must be one of domain-shift"),
    ({"tests": '["tox"]'}, "quick.toml", "unknown data set 'tox'", "did you mean toy?"),
    ({"tests": '["toy", "toy"]'}, "quick.toml", "tests must be a list of different data sets"),
    ({"tests": '["toy:x"]'}, "quick.toml", "has no domains: leave out 'x'"),
    ({"tests": '["../toy"]'}, "quick.toml", "unknown data set '../toy'"),
    ({"admits": '["zeroshot"]'}, "quick.toml", "admits must be a list of different settings"),
    ({"shots": "[-1]"}, "quick.toml", "shots must be a list of different whole numbers"),
    ({"seeds": "true"}, "quick.toml", "seeds must be a whole number from 1 to 10000, not True"),
    ({"seeds": "99999999999999999999"}, "quick.toml", "seeds must be a whole number from 1 to 10000"),
    ({"limit": "0"}, "quick.toml", "limit must be a whole number above 0"),
    ({"shotz": "[1]"}, "quick.toml", "unknown key 'shotz'", "did you mean shots?"),
    ({"setting": None}, "quick.toml", "setting is missing", "add it"),
    ({"fields": "{ lrr = 1 }"}, "quick.toml", "has the field 'lrr'", "did you mean lr"),
    ({"name": '"fast"'}, "quick.toml", "name is 'fast'", "rename the file to fast.toml"),
    ({"backbone": '"world-rm"'}, "unknown backbone 'world-rm'", "did you mean world-rn or world-vit?"),
    (toml(QUICK) + "seeds = 2\n", "quick.toml", "is not a TOML file"),
    make=suited,
)

# -- pictures ---------------------------------------------------------------------------------------------------------


def png(width: int = 8, height: int = 8, mode: str = "RGB", form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, form)
    return stream.getvalue()


def noise(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, form)
    return stream.getvalue()


def pretending(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says another size."""
    about = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", about), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        whole += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return whole


def pictures(at: Path, *names: str, content: bytes = png()) -> None:
    for name in names or ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"):
        (at / "pics" / name).parent.mkdir(parents=True, exist_ok=True)
        (at / "pics" / name).write_bytes(content)


def with_picture(content: bytes) -> Make:
    def make(at: Path) -> None:
        pictures(at)
        (at / "pics" / "dog" / "bad.jpg").write_bytes(content)

    return make


PICTURES = f"{RUN} --images @/pics"
UNREADABLE = "@/pics/dog/bad.jpg is not a picture that can be read"
mistakes(
    PICTURES,
    (b"", UNREADABLE, "the file is empty", "--on-bad-image skip"),
    (b"hello, I am a picture", UNREADABLE, "of no known format", "replace the file"),
    (b"<html><script>alert(1)</script></html>", UNREADABLE, "of no known format", "replace the file"),
    (b"\0" * 4096, UNREADABLE, "of no known format", "replace the file"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNREADABLE, "of no known format", "replace the file"),
    (b"\xff\xd8\xff\xe0", UNREADABLE, "replace the file"),
    (noise("JPEG")[:-900], UNREADABLE, "truncated", "replace the file"),
    (noise("PNG")[:-2000], UNREADABLE, "truncated", "replace the file"),
    (noise("GIF")[:-2000], UNREADABLE, "truncated", "replace the file"),
    (noise("WEBP")[:-500], UNREADABLE, "replace the file"),
    (noise("TIFF")[:500], UNREADABLE, "replace the file"),
    (noise("PNG")[:60] + b"\0" * 300 + noise("PNG")[360:], UNREADABLE, "replace the file"),
    (pretending(50_000, 50_000), UNREADABLE, "exceeds limit", "replace the file"),
    (pretending(2**31 - 1, 2**31 - 1), UNREADABLE, "exceeds limit", "replace the file"),
    (pretending(0, 7), UNREADABLE, "replace the file"),
    (png(20_000, 10_000, "1"), UNREADABLE, "exceeds limit", "replace the file"),
    (zlib.compress(b"\0" * 10**6), UNREADABLE, "of no known format", "replace the file"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) (w) file\n", UNREADABLE, "replace the file"),
    make=with_picture,
)


def dangling(at: Path) -> None:
    pictures(at)
    (at / "pics" / "bird").mkdir()
    (at / "pics" / "bird" / "0.png").symlink_to(at / "nowhere")


def flat(at: Path) -> None:
    pictures(at, "0.png", "1.png")


def one_class(at: Path) -> None:
    pictures(at, "cat/0.png")


def untaught(at: Path) -> None:
    pictures(at, "train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/eel/0.png")


def unlabelled(at: Path) -> None:
    pictures(at, "train/cat/0.png", "train/dog/0.png")


def uneven(at: Path) -> None:
    pictures(at, "train/cat/0.png", "train/cat/1.png", "train/dog/0.png", "test/cat/0.png", "test/dog/0.png")


case(f"{RUN} --images @/none", "@/none cannot be read as a folder", "No such file", "name one of pictures")
case(f"{RUN} --images @/file", "@/file cannot be read as a folder", "name one of pictures", make=text_file)
case(f"{RUN} --images @/empty", "@/empty holds no two folders of pictures", "sort them as", make=empty)
case(PICTURES, "@/pics holds no two folders of pictures", "sort them as", make=flat)
case(PICTURES, "@/pics holds no two folders of pictures", "sort them as", make=one_class)
case(PICTURES, "has no pictures of class 'eel'", "add a folder of that name", make=untaught)
case(PICTURES, "@/pics has a train folder and no test folder", "@/pics/test", make=unlabelled)
case(f"{PICTURES} --methods lp --shots 2", "gives 1 training pictures a class", "use --shots 1 or less", make=uneven)
case(f"{PICTURES} --methods coop", "no train folder", "add @/pics/train/<class>/*", make=pictures)
case(f"{PICTURES} --features @/x.npz", "--images and --features both bring data", "leave out one", make=pictures)
case("report --images @/pics --results @/results", "need --suite", "name the suite", make=pictures)


def class_named(name: str) -> Make:
    return lambda at: pictures(at, f"{name}/0.png", "dog/0.png")


mistakes(
    PICTURES,
    ("_", "class folder '_'", "rename"),
    ("   ", "class folder '   '", "rename"),
    ("a\x1b[31mb", r"class folder 'a\x1b[31mb'", "rename"),
    ("a\nb", r"class folder 'a\nb'", "rename"),
    ("a\u202eb", r"class folder 'a\u202eb'", "rename"),
    make=class_named,
)
case(
    PICTURES,
    "class folder",
    "rename",
    make=lambda at: (pictures(at), os.rename(bytes(at / "pics/cat"), bytes(at / "pics") + b"/\xff")),
)

# -- split files ------------------------------------------------------------------------------------------------------

ROWS = {"train": [["c.png", 0, "cat"], ["d.png", 1, "dog"]], "val": [], "test": [["a.png", 0, "cat"]]}
SPLIT = toml(TOY, reader='"split-file"', classes=None, options='{ file = "split.json" }')


def split(content: Any) -> Make:
    """A data set of the split file's kind whose file holds this."""

    def make(at: Path) -> None:
        home(SPLIT)(at)
        (at / "data" / "toy").mkdir(parents=True)
        for name in ("a.png", "c.png", "d.png"):
            (at / "data" / "toy" / name).write_bytes(png())
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (at / "data" / "toy" / "split.json").write_bytes(raw)

    return make


def rows(*test: Any, **others: Any) -> dict[str, Any]:
    return ROWS | {"test": list(test)} | others


FILE = "@/data/toy/split.json"
ENTRY = "must be [path below the image folder, label from 0, class name]"
mistakes(
    f"{RUN} --suite quick --data-root @/data --methods zero-shot",
    (b"", f"{FILE} is not a JSON file", "fetch it again"),
    (b"{", f"{FILE} is not a JSON file", "fetch it again"),
    (b"\xff\xfe\x00", f"{FILE} is not a JSON file", "fetch it again"),
    (b"[" * 100_000, f"{FILE} is not a JSON file", "fetch it again"),
    (b'{"train": [["a.png", ' + b"9" * 5000 + b', "cat"]]}', f"{FILE} is not a JSON file", "fetch it again"),
    ([], f"{FILE} is not a split file", "the lists train, val and test"),
    ({"train": [], "val": []}, f"{FILE} is not a split file", "the lists train, val and test"),
    (ROWS | {"val": {}}, f"{FILE} is not a split file", "the lists train, val and test"),
    (b"NaN", f"{FILE} is not a split file", "the lists train, val and test"),
    ({"train": [], "val": [], "test": []}, FILE, "labels must be 0, 1, 2 and so on"),
    (rows(["a.png", 0]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["../../a.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY, "'../../a.png'"),
    (rows(["/etc/passwd", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY, "'/etc/passwd'"),
    (rows(["~/a.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["C:\\a.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a\0.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows([0, "a.png", "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", -1, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0.5, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", True, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", "0", "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, 7]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, None]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, ""]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "  "]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "_"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "c\x1b[31mat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "c\u202eat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "\ud800"]), f"{FILE} is not a JSON file", "surrogates", "fetch it again"),
    (rows({"path": "a.png"}), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "dog"]), f"{FILE}: label 0 is called 'cat' and 'dog'", "give it one name"),
    (rows(["a.png", 5, "eel"]), FILE, "labels must be 0, 1, 2 and so on without gaps"),
    (rows(["a.png", 10**18, "eel"]), FILE, "labels must be 0, 1, 2 and so on without gaps"),
    (rows(["a.png", 0, "cat"], ["a.png", 1, "dog"]), FILE, "'a.png' stands twice, in test and in test", "keep one"),
    (rows(["c.png", 0, "cat"]), FILE, "'c.png' stands twice, in train and in test", "keep one"),
    (rows(["none.png", 0, "cat"]), "1 of 1 pictures are missing", "none.png", "get them"),
    make=split,
)

# -- weights ----------------------------------------------------------------------------------------------------------


class Code:
    """A pickle that leaves a trace where it is opened as one."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def weights(name: str, write: Callable[[Path, Path], object]) -> Make:
    """A folder like the hub's with this file of weights: write(file, trace)."""

    def make(at: Path) -> None:
        write(family("openai-vit", at) / name, at / "ran")

    return make


def raw(content: bytes) -> Callable[[Path, Path], object]:
    return lambda file, trace: file.write_bytes(content)


def header(about: Any, data: bytes = b"", size: int | None = None) -> Callable[[Path, Path], object]:
    """safetensors whose header says this."""
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    return raw(struct.pack("<Q", len(text) if size is None else size) + text + data)


def tensors(values: dict[str, torch.Tensor]) -> Callable[[Path, Path], object]:
    return lambda file, trace: save_file(values, file)


def coded(legacy: bool) -> Callable[[Path, Path], object]:
    return lambda file, trace: torch.save({"w": Code(trace)}, file, _use_new_zipfile_serialization=not legacy)


def program(file: Path, trace: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Code(trace), protocol=2))
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))


def greedy(file: Path, trace: Path) -> None:
    """An archive whose pickle of ten bytes asks for room for two thousand million objects."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02Nr\xff\xff\xff\x7f.")
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))


def zeros(file: Path, trace: Path) -> None:
    """An archive that would fill the memory: 100 kB that say they are 100 MB."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("w/data.pkl", b"\0" * 10**8)


SAFE, PT = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
DAMAGED = "is damaged, or no file of weights"
HUGE = {"w": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}
mistakes(
    f"{ZERO} --backbone local-dir:@/openai-vit",
    ((SAFE, raw(b"")), f"@/openai-vit/{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, raw(b"hello")), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header(b"{")), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header(HUGE)), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header({}, size=2**62)), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})), f"{SAFE} {DAMAGED}"),
    ((SAFE, header({"w": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8)), f"{SAFE} {DAMAGED}"),
    ((SAFE, header({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}})), f"{SAFE} {DAMAGED}"),
    ((SAFE, header({})), f"{SAFE} holds no tensors by name", "state_dict"),
    ((SAFE, tensors({"w": torch.zeros(2)})), f"{SAFE} is of another architecture", "it lacks"),
    ((PT, raw(b"")), f"{PT} {DAMAGED}", "download it again"),
    ((PT, raw(b"\x80\x04.")), f"{PT} {DAMAGED}", "download it again"),
    ((PT, raw(b"PK\x03\x04" + b"\0" * 100)), f"{PT} {DAMAGED}", "download it again"),
    ((PT, coded(False)), f"{PT} holds more than tensors", "not opened", "safetensors"),
    ((PT, coded(True)), f"{PT} holds more than tensors", "not opened", "safetensors"),
    ((PT, program), f"{PT} holds more than tensors", "not opened", "safetensors"),
    ((PT, greedy), f"{PT} {DAMAGED}", "it keeps more objects than it has bytes", "download it again"),
    ((PT, zeros), f"{PT} {DAMAGED}", "download it again"),
    ((PT, lambda file, trace: torch.save([1, 2], file)), f"{PT} holds no tensors by name", "state_dict"),
    ((PT, lambda file, trace: torch.save({}, file)), f"{PT} holds no tensors by name", "state_dict"),
    ((PT, lambda file, trace: torch.save({1: torch.zeros(2)}, file)), f"{PT} holds no tensors by name", "state_dict"),
    ((PT, lambda file, trace: file.write_bytes(pickle.dumps(Code(trace)))), f"{PT} {DAMAGED}", "download it again"),
    make=lambda given: weights(*given),
)


def configured(content: bytes) -> Make:
    def make(at: Path) -> None:
        (at / "m").mkdir()
        (at / "m" / "open_clip_config.json").write_bytes(content)

    return make


def config(**changes: Any) -> bytes:
    from families import config as known

    return json.dumps({"model_cfg": known("openai-vit") | changes}).encode()


mistakes(
    f"{ZERO} --backbone local-dir:@/m --random-weights",
    (b"{", "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (b"[]", "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (b"[" * 100_000, "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (config(text_cfg=7), "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (config(embed_dim="wide"), "backbone 'm:random-weights' cannot be built"),
    (config(embed_dim=10**15), "backbone 'm:random-weights' cannot be built"),
    (config(vision_cfg={"layers": -1, "width": 0}), "backbone 'm:random-weights' cannot be built"),
    make=configured,
)
mistakes(
    f"{ZERO} --backbone {{}}",
    ("world-rm", "unknown backbone 'world-rm'", "did you mean world-rn or world-vit?"),
    ("' '", "--backbone ' ' names none", "write one"),
    ("ViT-B-16", "'ViT-B-16' names no weights", "ViT-B-16:TAG"),
    ("ViT-B-16:openal", "unknown weights 'openal' of ViT-B-16", "did you mean openai"),
    ("ViT-B-16:@/none.pt", "no weights file @/none.pt", "name a file"),
    ("ViT-B-16:openai=@/none.pt", "no weights file @/none.pt", "name a file"),
    ("ViT-B-16:open=@/none.pt", "unknown tag 'open' of ViT-B-16", "did you mean openai"),
    ("local-dir:@/none", "@/none holds no open_clip_config.json", "name a folder"),
    ("hf-hub:nothing", "must look like hf-hub:OWNER/NAME", "such as"),
    ("world-rn --random-weights", "--random-weights is for an architecture", "not for world-rn"),
    ("ViT-B-16:openai --random-weights", "--random-weights is for an architecture alone", "write ViT-B-16"),
)
case(f"{ZERO} --random-weights", "--random-weights needs an architecture", "--backbone ViT-B-16")

# -- feature bundles --------------------------------------------------------------------------------------------------


def arrays(**changes: Any) -> dict[str, Any]:
    """A bundle's arrays with others; None leaves one out."""
    y = np.arange(4)
    whole = {"names": np.array(["ant", "bee", "cat", "dog"]), "text": np.eye(4, 8, dtype=np.float32)}
    whole |= {
        f"{part}_{what}": value for part in ("train1", "test") for what, value in (("x", whole["text"]), ("y", y))
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


def bundle(content: dict[str, Any] | bytes) -> Make:
    def make(at: Path) -> None:
        if isinstance(content, bytes):
            (at / "pets.npz").write_bytes(content)
        else:
            np.savez(at / "pets.npz", **content)

    return make


def npy(about: str, data: bytes = b"") -> bytes:
    """An array whose header says this."""
    text = about.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def lying(shape: str) -> bytes:
    return npz(test_x=npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}", b"\0" * 64))


FEW = f"{RUN} --suite few-shot --methods lp --seeds 1 --features @/pets.npz"
bad = np.float32("nan")
mistakes(
    FEW,
    (b"", "@/pets.npz is not a feature bundle", "give an .npz file with names"),
    (b"PK\x03\x04", "@/pets.npz is not a feature bundle", "give an .npz file"),
    (b"hello", "@/pets.npz is not a feature bundle", "give an .npz file"),
    (pickle.dumps([1]), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"\0" * 4), "@/pets.npz is not a feature bundle"),
    (arrays(names=np.array(["a", None], dtype=object)), "@/pets.npz is not a feature bundle", "Python objects"),
    (lying("(10**15,)"), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (lying("(1000000000000000, 8)"), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (lying("(-4, 8)"), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (lying("(" * 5000), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (
        npz(
            zipfile.ZIP_DEFLATED,
            x=npy("{'descr': '|u1', 'fortran_order': False, 'shape': (600000000,)}", b"\0" * 600_000_000),
        ),
        "@/pets.npz is not a feature bundle",
        "grows to more than",
    ),
    (arrays(names=None), "@/pets.npz", "names is missing", "expected are names"),
    (arrays(text=None), "@/pets.npz", "text_a is missing", "expected are names"),
    (arrays(test_x=None), "@/pets.npz", "test_x is missing", "expected are names"),
    (arrays(test_y=None), "@/pets.npz", "test_y is missing", "expected are names"),
    (arrays(train1_y=None), "@/pets.npz", "train1_y must be a list of whole numbers"),
    (arrays(names=np.arange(4)), "@/pets.npz", "names must be a list of texts"),
    (arrays(names=np.array([["a"]])), "@/pets.npz", "names must be a list of texts"),
    (arrays(names=np.array(["", "b", "c", "d"])), "@/pets.npz", "names must be a list of texts"),
    (arrays(names=np.array(["a\x1b[31m", "b", "c", "d"])), "@/pets.npz", "names must be a list of texts"),
    (arrays(text=np.eye(3, 8, dtype=np.float32)), "@/pets.npz", "text must be (classes, D) finite numbers"),
    (arrays(text=np.zeros((0, 0, 0), np.float32)), "@/pets.npz", "text must be (classes, D) finite numbers"),
    (arrays(text=np.full((4, 8), bad)), "@/pets.npz", "text must be (classes, D) finite numbers"),
    (arrays(test_x=np.full((4, 8), bad)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.full((4, 8), np.float32("inf"))), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.full((4, 8), 1e300)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros((4, 9), np.float32)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros((4, 8), int)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros(8, np.float32)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros((3, 8), np.float32)), "@/pets.npz", "test_y must be a class below 4 for each row"),
    (arrays(test_y=np.array([0, 1, 2, 4])), "@/pets.npz", "test_y must be a class below 4"),
    (arrays(test_y=np.array([0, 1, 2, -1])), "@/pets.npz", "test_y must be a class below 4"),
    (arrays(test_y=np.array([0.0, 1, 2, 3])), "@/pets.npz", "test_y must be a list of whole numbers"),
    (arrays(test_y=np.array([2**64 - 1] * 4, np.uint64)), "@/pets.npz", "test_y must be a class below 4"),
    (arrays(test_x=np.zeros((0, 8), np.float32), test_y=np.zeros(0, int)), "@/pets.npz", "test_x holds no rows"),
    (arrays(scale=np.array(-1.0)), "@/pets.npz", "scale must be a number above 0"),
    (arrays(scale=np.array(bad)), "@/pets.npz", "scale must be a number above 0"),
    (arrays(scale=np.array("much")), "@/pets.npz", "scale must be a number above 0"),
    (arrays(test_pre=np.eye(4, 8)), "@/pets.npz", "test_pre needs projection"),
    (arrays(train1_x=None, train1_y=None), "@/pets.npz holds [] shots", "use --shots"),
    make=bundle,
)
case(f"{FEW} --shots 9", "@/pets.npz holds [1] shots", "asks for [9]", "use --shots", make=bundle(arrays()))
case(f"{FEW} --backbone world-rn", "--features brings its own features", "leave out --backbone", make=bundle(arrays()))
case(f"{RUN} --suite few-shot --features @/none.npz", "feature bundle @/none.npz cannot be read", "give the path")
case(f"{RUN} --suite few-shot --features @/empty", "@/empty is not a feature bundle", "give an .npz file", make=empty)

# -- results from elsewhere -------------------------------------------------------------------------------------------

WORLD = Task(Part("world-sketch", "test", "3"), limit=40)


def stored(at: Path, **changes: Any) -> Path:
    """A results folder with one cell of the smoke suite; where it lies."""
    return records.save(cell("zero-shot", WORLD, 1, "1100", id="c" * 16, **changes), at / "there")


def edited(change: Callable[[Path], object] | dict[str, Any]) -> Make:
    """A results folder whose cell has been tampered with."""

    def make(at: Path) -> None:
        place = stored(at)
        if callable(change):
            change(place)
            return
        content = json.loads((place / "cell.json").read_text())
        for path, value in change.items():
            *outer, last = path.split("/")
            owner = content
            for key in outer:
                owner = owner[key]
            if value is None:
                del owner[last]
            else:
                owner[last] = value
        (place / "cell.json").write_text(json.dumps(content))

    return make


def with_arrays(**changes: Any) -> Callable[[Path], object]:
    """Other arrays in place of a cell's own."""

    def change(place: Path) -> None:
        with np.load(place / "predictions.npz") as old:
            np.savez(place / "predictions.npz", **{**old, **changes})

    return change


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(content)


def linked(name: str, target: str) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        (place / name).unlink()
        (place / name).symlink_to(target)

    return change


def fifo(place: Path) -> None:
    (place / "cell.json").unlink()
    os.mkfifo(place / "cell.json")


BROKEN = ("is damaged (", "delete this folder and run again")
mistakes(
    "show cccc --results @/there",
    ({"schema": 10**6}, "written by a newer version (schema 1000000", "update the harness"),
    ({"schema": "1"}, *BROKEN),
    ({"schema": -1}, "schema", *BROKEN),
    ({"schema": float("nan")}, "schema", *BROKEN),
    ({"schema": None}, "schema", *BROKEN),
    ({"id": "../../../tmp/x"}, "id", *BROKEN),
    ({"id": 5}, "id", *BROKEN),
    ({"status": "splendid"}, "status", *BROKEN),
    ({"method": None}, "method", *BROKEN),
    ({"method": ["x"]}, "method", *BROKEN),
    ({"title": {}}, "title", *BROKEN),
    ({"seed": "one"}, "seed", *BROKEN),
    ({"seed": 10**300}, "seed", *BROKEN),
    ({"parameters": 1e400}, "parameters", *BROKEN),
    ({"parameters": "many"}, "parameters", *BROKEN),
    ({"support": -1}, "support", *BROKEN),
    ({"classes": "xyz"}, "classes", *BROKEN),
    ({"classes": [1, 2, 3]}, "classes", *BROKEN),
    ({"fields": [1]}, "fields", *BROKEN),
    ({"notes": "a note"}, "notes", *BROKEN),
    ({"provenance": []}, "provenance", *BROKEN),
    ({"provenance/data": []}, "provenance", *BROKEN),
    ({"provenance/packages": "torch"}, "provenance", *BROKEN),
    ({"cost": 5}, *BROKEN),
    ({"cost/fit_s": "long"}, "cost", *BROKEN),
    ({"cost/image_forwards": 10**400}, "cost", *BROKEN),
    ({"task": "x"}, *BROKEN),
    ({"task/test": None}, *BROKEN),
    ({"task/test/dataset": 7}, "task", *BROKEN),
    ({"task/test/surprise": 7}, *BROKEN),
    ({"task/shots": "all"}, "task", *BROKEN),
    ({"images": 10**15}, "does not hold 1000000000000000 images", *BROKEN),
    ({"images": "4"}, *BROKEN),
    (written("cell.json", b"[]"), *BROKEN),
    (written("cell.json", b"\xff\xfe"), *BROKEN),
    (written("cell.json", b"[" * 10**6), *BROKEN),
    (written("cell.json", b'{"schema": ' + b"9" * 5000 + b"}"), *BROKEN),
    (written("predictions.npz", b""), *BROKEN),
    (written("predictions.npz", npz(ids=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10**15,)}"))), *BROKEN),
    (lambda place: (place / "predictions.npz").unlink(), "predictions.npz is missing", *BROKEN),
    (with_arrays(ids=np.array([{}] * 4, dtype=object)), *BROKEN),
    (with_arrays(ids=np.arange(4)), "ids", *BROKEN),
    (with_arrays(label=np.array(list("abcd"))), "label", *BROKEN),
    (with_arrays(label=np.array([0, 1, 2, 3], np.int32)), "label", *BROKEN),
    (with_arrays(prediction=np.array([-1, 0, 0, 0], np.int32)), "prediction", *BROKEN),
    (with_arrays(prediction=np.zeros(4)), "prediction", *BROKEN),
    (with_arrays(confidence=np.zeros(4, complex)), "confidence", *BROKEN),
    (with_arrays(label=np.zeros(5, np.int32)), "does not hold 4 images", *BROKEN),
    (linked("cell.json", "/dev/zero"), *BROKEN),
    (linked("predictions.npz", "/dev/zero"), *BROKEN),
    (linked("cell.json", "/etc/passwd"), *BROKEN),
    (linked("cell.json", "cell.json"), *BROKEN),
    (fifo, *BROKEN),
    make=edited,
)
mistakes(
    "report --results @/there --suite smoke",
    ({"status": "splendid"}, "no stored cells of suite 'smoke'", "run python -m bench run --suite smoke first"),
    (with_arrays(label=np.array(list("abcd"))), "no stored cells of suite 'smoke'", "--suite smoke first"),
    make=edited,
)
mistakes(
    "gate --baseline @/there --results @/there",
    ({"schema": 10**6}, "newer version"),
    ({"status": "splendid"}, "is damaged"),
    (with_arrays(label=np.array(list("abcd"))), "is damaged"),
    make=edited,
    code=3,
)
case("gate --baseline @/none --results @/there", "@/none holds no cell", "name the baseline's folder", code=3)
case("gate --results @/there", "required: --baseline")
for option, words in (("--margin", ("-1", "100", "nan", "wide")), ("--alpha", ("0", "1", "nan", "2", "x"))):
    for word in words:
        case(f"gate --baseline @/there {option} {word}", option, "must be")
case("show nothing --results @/there", "@/there holds no cell 'nothing'", "cells", make=stored)
case("show ../../etc --results @/there", "@/there holds no cell '../../etc'", "cells", make=stored)
case("show 0123 --results @/none", "@/none holds no cells", "run a suite first")
case("show '' --results @/there", "@/there holds no cell ''", "cells", make=stored)
case("show x --results @/file", "@/file holds no cells", "run a suite first", make=text_file)
case("show", "required: CELL")
mistakes(
    "report --results @/there {}",
    ("--suite oood", "unknown suite 'oood'", "did you mean ood"),
    ("--format pdf", "unknown format 'pdf'", "known are"),
    ("--format md,", "unknown format ''", "known are"),
    ("--style journal", "invalid choice: 'journal'", "paper"),
    ("--suite ''", "holds no cells", "run a suite first"),
)
case("report --results @/none", "@/none holds no cells", "--results DIR")
case("report --results @/file", "@/file holds no cells", "--results DIR", make=text_file)
case("report --results @/there --features @/x.npz", "need --suite", "name the suite", make=stored)
case("report --results @/there --suite few-shot --features @/x.npz", "@/x.npz cannot be read", make=stored)


def no_place(at: Path) -> None:
    stored(at)
    (at / "there" / "tables").write_text("a file")


case("report --results @/there --suite smoke --format md", "@/there cannot be written", "mend that", make=no_place)
mistakes(
    "compare {}",
    ("zero-shot tpt --results @/none", "@/none holds no cells", "--results DIR"),
    ("zero-shot tpt --results @/there,@/there,@/there", "names 3 folders", "two can be compared"),
    ("zero-shot", "required: B"),
    ("zero-shot tpt --suite oood", "unknown suite 'oood'", "did you mean ood"),
    ("zero-shot tpt --format pdf", "invalid choice: 'pdf'", "md"),
)
case("compare @/there zero-shot --results @/there", "@/there is a results folder", "compare it with", make=stored)
case("compare zero-shot tqt --suite smoke --results @/there", "tqt", "zero-shot", make=stored)

# -- the tests --------------------------------------------------------------------------------------------------------

WATCHED: list[Callable[[str, tuple[Any, ...]], None]] = []
"""Who is told what Python does to files; an audit hook stays for good, so there is one."""
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
PATIENCE = 60
"""Seconds after which a case that hangs is interrupted, so that it fails rather than all of them."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _told(event: str, about: tuple[Any, ...]) -> None:
    for watcher in WATCHED:
        watcher(event, about)


sys.addaudithook(_told)


@pytest.fixture
def touched() -> Iterator[list[str]]:
    """Every path that Python opens for writing, makes, moves or removes."""
    found: list[str] = []

    def watch(event: str, about: tuple[Any, ...]) -> None:
        if (event == "open" and about[2] & WRITING) or event in CHANGES:
            names = about[:2] if event in ("os.rename", "os.link", "os.symlink") else about[:1]
            found.extend(os.path.abspath(os.fsdecode(name)) for name in names if not isinstance(name, int))

    WATCHED.append(watch)
    yield found
    WATCHED.remove(watch)


def listing(folder: Path) -> dict[str, str]:
    """What stands there: files with size and time of change, links with their targets; folders that are empty do not
    count below `results`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, about = os.fsencode(path.relative_to(folder)).decode("latin-1"), path.lstat()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif not path.is_dir():
            found[name] = f"{about.st_size} {about.st_mtime_ns}"
        elif name.split("/")[0] != "results":
            found[name] = "a folder"
    return found


def put(words: str, at: Path) -> list[str]:
    return [word.replace("@", str(at)) for word in shlex.split(words)]


@pytest.fixture(autouse=True)
def interrupted() -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise TimeoutError("the case hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    yield
    signal.signal(signal.SIGALRM, before)


def named(one: Case) -> str:
    return f"{CASES.index(one):03d} {' '.join(one.says)}"[:60].encode("ascii", "replace").decode().replace("\n", " ")


@pytest.mark.parametrize("one", CASES, ids=named)
def test_a_mistake_is_one_sentence_with_its_remedy_and_nothing_is_left_behind(
    one: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    touched: list[str],
) -> None:
    if one.make is not None:
        one.make(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "1000")
    if (tmp_path / "datasets").is_dir():
        monkeypatch.setattr(cards, "home", lambda: tmp_path / "datasets")
    before = listing(tmp_path)
    touched.clear()
    signal.alarm(PATIENCE)
    try:
        code = main(put(one.words, tmp_path))
    except SystemExit as stop:  # argparse's own way out
        code = int(stop.code or 0)
    finally:
        signal.alarm(0)
    outside = [path for path in touched if not path.startswith((str(tmp_path), "/dev/")) and "__pycache__" not in path]
    printed = capsys.readouterr()
    assert code == one.code, printed
    assert "Traceback" not in printed.out + printed.err
    said = printed.out + printed.err
    if one.code == 2:
        (said,) = [line for line in printed.err.splitlines() if "error: " in line]
        assert said.isprintable()
        assert printed.err.rstrip("\n").endswith(said)
        if said.startswith("error: "):
            assert said.endswith((".", "?"))
    for words in one.says:
        assert words.replace("@", str(tmp_path)) in said
    assert [path for path in outside if not path.startswith("/proc/none")] == []
    assert listing(tmp_path) == before


def test_the_watcher_sees_what_is_written_made_moved_and_removed(tmp_path: Path, touched: list[str]) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").read_text()
    (tmp_path / "b").mkdir()
    os.rename(tmp_path / "a", tmp_path / "c")
    os.close(os.open(tmp_path / "d", os.O_CREAT))
    (tmp_path / "c").unlink()
    assert [Path(path).name for path in touched] == ["a", "b", "a", "c", "d", "c"]


def test_there_are_at_least_150_such_cases_and_no_two_are_alike() -> None:
    assert len(CASES) >= 150
    assert len({(one.words, one.make, one.says) for one in CASES}) == len(CASES)


# -- in processes of their own ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        Case(f"{ZERO} --backbone local-dir:@/openai-vit", ("holds more than tensors",), weights(PT, coded(True))),
        Case("show cccc --results @/there", BROKEN, edited({"status": "splendid"})),
    ],
    ids=["weights", "cell"],
)
def test_in_a_process_of_its_own_a_mistake_is_the_same_sentence_and_nothing_else(one: Case, tmp_path: Path) -> None:
    if one.make is not None:
        one.make(tmp_path)
    before = listing(tmp_path)
    command = [sys.executable, "-m", "bench", *put(one.words, tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, env=environment, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("error: ")
    for words in one.says:
        assert words.replace("@", str(tmp_path)) in said
    assert listing(tmp_path) == before


# -- what is odd and right --------------------------------------------------------------------------------------------


def gif(form: str) -> bytes:
    """Three frames."""
    stream, frames = io.BytesIO(), [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    frames[0].save(stream, form, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def turned() -> bytes:
    """40 x 20, and its EXIF tag says that it is to be shown as 20 x 40."""
    stream, picture = io.BytesIO(), Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def sixteen() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0x80FF, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        png(1, 1), png(20_000, 1), png(1, 20_000), png(mode="CMYK", form="JPEG"), png(mode="LA"), png(mode="1"),
        png(mode="P"), sixteen(), gif("GIF"), gif("PNG"), gif("WEBP"), turned(),
    ],
    ids=["1 x 1", "20000 x 1", "1 x 20000", "CMYK", "grey and alpha", "bits", "palette", "16 bit", "animated GIF",
         "animated PNG", "animated WebP", "turned by EXIF"],
)  # fmt: skip
def test_an_odd_picture_is_answered_like_any_other(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What becomes of its pixels stands in test_images.py: RGB, the upper half of 16 bits, the first frame, not turned
    by EXIF, as torchvision's loader has it."""
    with_picture(content)(tmp_path)
    assert main(put(f"{PICTURES} --methods zero-shot", tmp_path)) == 0, capsys.readouterr().err
    (record,) = records.scan(tmp_path / "results", predictions=True).records
    assert record.status == "done"
    assert "dog/bad.jpg" in record.ids
    assert np.isfinite(record.confidence).all()


@pytest.mark.parametrize(
    "name",
    [
        "café",
        "方法",
        "חתול",
        "قطة",
        "😀",
        "<script>alert(1)<",
        "$x_1^2$ & 50% #{}~",
        "a" * 200,
        "-rf",
        'it\'s "so"',
        "{}",
    ],
)
def test_an_odd_class_name_is_a_class_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path, f"{name}/0.png", "dog/0.png")
    assert main(put(f"{PICTURES} --methods zero-shot", tmp_path)) == 0, capsys.readouterr().err
    (record,) = records.scan(tmp_path / "results").records
    assert " ".join(name.replace("_", " ").split()) in record.classes


def test_a_class_name_of_10_000_letters_is_cut_to_the_context_and_answered(tmp_path: Path, capsys) -> None:
    names = ["ab" * 5000, "b " * 5000 + "b"]
    paths = {"train": [["c.png", 0, names[0]], ["d.png", 1, names[1]]], "val": [], "test": [["a.png", 0, names[0]]]}
    split(paths)(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "home", lambda: tmp_path / "datasets")
        words = f"{RUN} --suite quick --data-root @/data --methods zero-shot"
        assert main(put(words, tmp_path)) == 0, capsys.readouterr().err
    (record,) = records.scan(tmp_path / "results").records
    assert record.classes == tuple(names)
