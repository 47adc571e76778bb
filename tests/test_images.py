"""Every picture is RGB, whatever it was stored as, and a file that is none is named in one sentence."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.api import UserError
from bench.readers.folders import opened

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def halves(left, right, mode: str = "RGB") -> Image.Image:
    """8 x 4, its left half of one colour and its right half of another."""
    picture = Image.new(mode, (8, 4), left)
    picture.paste(right, (4, 0, 8, 4))
    return picture


def sixteen_bits(order: str = "<") -> Image.Image:
    """Black on the left, and 128 of 255 in the upper byte on the right."""
    return Image.fromarray(np.repeat([[0, 0x80FF]], [4, 4], axis=1).repeat(4, axis=0).astype(order + "u2"))


def palette(transparency: int | bytes) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        picture = Image.new("P", (8, 4), 0)
        picture.putpalette([*RED, *BLUE])
        picture.paste(1, (4, 0, 8, 4))
        picture.save(file, transparency=transparency)

    return write


def animation(**how) -> Callable[[Path], None]:
    return saved(halves(RED, BLUE), save_all=True, append_images=[halves(GREEN, GREEN), halves(WHITE, WHITE)], **how)


def turned(file: Path) -> None:
    """Its EXIF tag says: to be shown turned by 90 degrees."""
    picture = halves(RED, BLUE)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(file, exif=exif, quality=100, subsampling=0)


def saved(picture: Image.Image, **how) -> Callable[[Path], None]:
    return lambda file: picture.save(file, **how)


@pytest.mark.parametrize(
    ("name", "write", "left", "right"),
    [
        ("plain.png", saved(halves(RED, BLUE)), RED, BLUE),
        ("plain.jpg", saved(halves(RED, BLUE), quality=100, subsampling=0), RED, BLUE),
        ("grey.png", saved(halves(0, 255, "L")), BLACK, WHITE),
        ("grey.jpg", saved(halves(0, 255, "L"), quality=100), BLACK, WHITE),
        ("bits.png", saved(halves(0, 1, "1")), BLACK, WHITE),
        ("grey and alpha.png", saved(halves((0, 9), (255, 9), "LA")), BLACK, WHITE),
        ("alpha.png", saved(halves((*RED, 0), (*BLUE, 128), "RGBA")), RED, BLUE),
        ("cmyk.jpg", saved(halves((0, 0, 0, 0), (0, 0, 0, 255), "CMYK"), quality=100), WHITE, BLACK),
        ("cmyk.tif", saved(halves((0, 255, 255, 0), (255, 255, 0, 0), "CMYK")), RED, BLUE),
        ("sixteen bits.png", saved(sixteen_bits()), BLACK, (128, 128, 128)),
        ("sixteen bits.tif", saved(sixteen_bits()), BLACK, (128, 128, 128)),
        ("sixteen bits, big end first.tif", saved(sixteen_bits(">")), BLACK, (128, 128, 128)),
        ("palette.gif", palette(1), RED, BLUE),
        ("palette with one transparent.png", palette(0), RED, BLUE),
        ("palette with transparencies.png", palette(bytes([0, 128])), RED, BLUE),
        ("animated.gif", animation(), RED, BLUE),
        ("animated.png", animation(), RED, BLUE),
        ("animated.webp", animation(lossless=True), RED, BLUE),
        ("turned by exif.jpg", turned, RED, BLUE),
        ("a png that calls itself.jpg", saved(halves(RED, BLUE), format="PNG"), RED, BLUE),
    ],
)
def test_a_picture_is_rgb_whatever_it_was_stored_as(tmp_path: Path, name: str, write, left, right) -> None:
    write(tmp_path / name)
    picture = opened(tmp_path / name)
    assert (picture.mode, picture.size) == ("RGB", (8, 4))
    pixels = np.asarray(picture).astype(int)
    assert np.abs(pixels[:, :3] - left).max() <= 4  # a JPEG is not exact
    assert np.abs(pixels[:, 5:] - right).max() <= 4


def test_a_picture_may_be_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), GREEN).save(tmp_path / "one.png")
    assert np.asarray(opened(tmp_path / "one.png")).tolist() == [[list(GREEN)]]


def encoded(form: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def bomb() -> bytes:
    """A few bytes that say they are 40000 x 40000."""
    buffer = io.BytesIO()
    Image.new("1", (40000, 40000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404 Not Found</html>", "its bytes are of no known format"),
        (encoded("JPEG")[:-2000], r"image file is truncated \(.*\)"),
        (encoded("PNG")[:-2000], "image file is truncated.*"),
        (encoded("PNG")[:60] + b"\0" * 500 + encoded("PNG")[560:], ".+"),
        (encoded("GIF")[:-2000], "image file is truncated.*"),
        (bomb(), r"Image size \(1600000000 pixels\) exceeds limit of 178956970 pixels, could be.*"),
    ],
    ids=["empty", "text", "truncated jpeg", "truncated png", "damaged png", "truncated gif", "bomb"],
)
def test_a_file_that_is_no_picture_is_named_in_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "cat.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        opened(file)
    text = str(caught.value)
    remedy = r"replace the file, or leave such pictures out by --on-bad-image skip\."
    assert text.count(str(file)) == 1
    assert re.fullmatch(rf".*cat\.jpg is not a picture that can be read \({reason}\); {remedy}", text)
    assert "\n" not in text


def test_a_picture_below_the_limit_is_read_without_a_word(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_500)).save(tmp_path / "large.png")  # 95 million pixels, of which Pillow warns
    assert opened(tmp_path / "large.png").size == (10_000, 9_500)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    halves(RED, BLUE).save(file)
    file.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        opened(file)


def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cat\.png is not a picture that can be read \(No such file or directory\)"):
        opened(tmp_path / "cat.png")
