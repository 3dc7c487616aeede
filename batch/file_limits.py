"""What one file may cost: time, pixels and bytes."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 512 * 1024**2
DECODE_TIMEOUT = 60  # seconds, many times what the largest allowed picture takes


@dataclass(frozen=True)
class FileLimits:
    """The limits of reading and decoding one file; one that exceeds them fails alone.

    ``decode_timeout`` is in seconds, ``max_pixels`` counts the pixels held while decoding,
    ``max_file_size`` is in bytes.
    """

    decode_timeout: int = DECODE_TIMEOUT
    max_pixels: int = MAX_PIXELS
    max_file_size: int = MAX_FILE_BYTES
