"""What one file may cost: time, pixels and bytes, and how many pixels are made of it."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass

from batch.errors import UsageError
from batch.names import printable

DECODE_TIMEOUT = 30  # seconds; the slowest pictures of MAX_PIXELS take about 4 on an idle core
MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 512 * 1024**2
MAX_SIDE = 1280  # pixels: what a photo's longer side is brought below
MAX_DETAIL_PIXELS = 12_500_000  # of a photo's detail, see ``decode.detail_size``

_NUMBER = re.compile(r"([0-9]{1,15})(?:([KMG])(iB|B)?)?")
_POWERS = {None: 0, "K": 1, "M": 2, "G": 3}
# More than any machine has, and small enough to be counted with.
_MOST = 10**15


@dataclass(frozen=True)
class FileLimits:
    """The limits of reading and decoding one file; what exceeds them fails alone.

    ``decode_timeout`` is in seconds, ``max_pixels`` counts the pixels held while decoding,
    ``max_file_size`` is in bytes.

    Raises:
        UsageError: one of them is no whole number of at least 1.
    """

    decode_timeout: int = DECODE_TIMEOUT
    max_pixels: int = MAX_PIXELS
    max_file_size: int = MAX_FILE_BYTES

    def __post_init__(self) -> None:
        if any(type(limit) is not int or limit < 1 for limit in astuple(self)):
            raise UsageError(
                f"limits of {astuple(self)} can't be kept", "give whole numbers of at least 1"
            )


def parse_max_pixels(text: str) -> int:
    """Read a number of pixels, ``100M``, ``1G`` or ``25000000``.

    Raises:
        UsageError: it is none.
    """
    match = _NUMBER.fullmatch(text)
    pixels = int(match[1]) * 1000 ** _POWERS[match[2]] if match and not match[3] else 0
    if 0 < pixels <= _MOST:
        return pixels
    raise UsageError(
        f"--max-pixels {printable(text)} is no number of pixels",
        "write a number, such as 25000000, or millions, such as 100M",
    )


def parse_max_file_size(text: str) -> int:
    """Read a size, ``512MiB`` or ``512M``, ``500MB`` or ``536870912``, and give it in bytes.

    Raises:
        UsageError: it is none.
    """
    match = _NUMBER.fullmatch(text)
    base = 1000 if match and match[3] == "B" else 1024
    size = int(match[1]) * base ** _POWERS[match[2]] if match else 0
    if 0 < size <= _MOST:
        return size
    raise UsageError(
        f"--max-file-size {printable(text)} is no size",
        "write a number of bytes, or one with K, M or G, such as 512M",
    )
