"""A picture that cannot be read, or a folder of no classes, gets one sentence; what is odd and right is answered."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from mistakes import RUN, Case, Cases, Make, empty, png, put, text_file
from PIL import Image

from bench import records
from bench.__main__ import main

CASES = Cases()
case, mistakes = CASES.one, CASES.each

# -- pictures ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("one", CASES, ids=CASES.named)
def test_a_mistake_is_one_sentence_with_its_remedy_and_nothing_is_left_behind(one: Case, answered) -> None:
    answered(one)


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
