"""Files opened for reading, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batch.errors import UsageError
from batch.location import Location, scheme_of
from batch.names import printable


@contextmanager
def opened(place: Location) -> Iterator[BinaryIO]:
    """Open a file of this machine or behind a URL; it can be read from any place in it.

    Raises:
        OSError: it is not there, or the system or the store refuses.
        UsageError: the package that its store needs is not installed.
    """
    with _file(place) as file:
        yield file


def _file(place: Location) -> BinaryIO:
    if isinstance(place, Path):
        return place.open("rb")
    import fsspec

    try:
        file: BinaryIO = fsspec.open(place.text, "rb").open()
    except OSError:
        raise
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{printable(place.text)} can't be opened ({printable(str(error))})",
            f"install what reads {scheme_of(place.text)}://, or check the URL",
        ) from error
    except Exception as error:  # whatever the store's own package raises
        raise OSError(0, f"{type(error).__name__}: {error}") from error
    return file
