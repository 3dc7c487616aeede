"""The boxes of ISO base media files (ISO/IEC 14496-12), as AVIF, HEIC and JPEG XL have them."""

from __future__ import annotations

from collections.abc import Iterator


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Give type, start of content and end of the boxes between two places."""
    while at + 8 <= end:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size < head:  # 0 means "to the end of the file"; the others are invalid
            size = end - at
        yield data[at + 4 : at + 8], at + head, at + size
        at += size
