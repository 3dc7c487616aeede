"""The table of image formats, and its copy in docs/usage.md."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image

from batch.file_types import (
    FILE_TYPES,
    HEAD_BYTES,
    RAW_SUFFIXES,
    RAW_TYPE,
    SIDECAR_SUFFIX,
    SKIP_REASONS,
    SUFFIXES,
    detect_file_type,
    sniff_skip_reason,
)
from batch.records import Reason
from tests.conftest import REPOSITORY
from tests.support.decoded import decode_failure, encode

USAGE = (REPOSITORY / "docs" / "usage.md").read_text(encoding="utf-8")


def test_the_docs_have_the_table() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| (`\.[^|]+?) \| ([^|]+?) \|$", USAGE, re.MULTILINE)
    assert rows == [
        (kind.name, " ".join(f"`{suffix}`" for suffix in kind.suffixes), read_from(kind))
        for kind in FILE_TYPES
    ]


def read_from(kind: Any) -> str:
    if not kind.decoder:
        return "`unsupported`"
    extra = f", with the extra `{kind.extra}`" if kind.extra else ""
    option = ", in folders with `--raws`" if kind is RAW_TYPE else ""
    return f"{kind.picture.removesuffix('.')}{extra}{option}"


def test_the_table_is_consistent() -> None:
    suffixes = [suffix for kind in FILE_TYPES for suffix in kind.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in suffixes)
    assert set(suffixes) == SUFFIXES | set(SKIP_REASONS) - {SIDECAR_SUFFIX}
    assert set(SKIP_REASONS) >= RAW_SUFFIXES
    assert all(kind.signature or kind.brands for kind in FILE_TYPES)


def test_the_readers_of_the_table_are_imported() -> None:
    # If Pillow misses one of them, it loads all that it has.
    code = (
        "from PIL import Image\n"
        "from batch.file_types import DECODERS\n"
        "import batch.vision.pillow\n"
        "print(*sorted(set(DECODERS) - set(Image.OPEN)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [], "import their modules in batch/vision/pillow.py"


@pytest.mark.parametrize(
    ("form", "name"), [("JPEG2000", "JPEG 2000"), ("PPM", "Netpbm"), ("QOI", "QOI")]
)
def test_a_format_without_a_decoder_is_named(form: str, name: str, astronaut: Image.Image) -> None:
    data = encode(astronaut, form)
    result = decode_failure(data)
    assert result.reason is Reason.UNSUPPORTED
    assert name in result.detail
    assert sniff_skip_reason(data[:HEAD_BYTES]) == "unsupported format"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\xd8\xff\xf7\0\x0b", "JPEG-LS"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"II\xbc\x01\x08\0\0\0", "JPEG XR"),
        (b"8BPS\0\x01\0\0", "Photoshop"),
        (b"v/1\x01\x02\0\0\0", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"gimp xcf v011\0", "GIMP"),
    ],
)
def test_the_first_bytes_tell_the_format(head: bytes, name: str) -> None:
    kind = detect_file_type(head)
    assert kind is not None
    assert kind.name == name


def test_a_folder_takes_what_can_be_decoded() -> None:
    assert {".jpg", ".jxl", ".heic", ".tif"} <= SUFFIXES
    assert SKIP_REASONS[".jp2"] == SKIP_REASONS[".psd"] == "unsupported format"
    assert sniff_skip_reason(b"no picture") == "no image"
