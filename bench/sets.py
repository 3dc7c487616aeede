"""The photos that are measured: those of a zip file, as they are and as a camera would give them.

The runner knows copies by their SHA-256 and would skip the work, so that no two files of a set
may have the same bytes: each copy has a number of its own in a JPEG comment.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.camera import Camera

PER_FOLDER = 20
SUFFIXES = (".jpg", ".jpeg")
# Beside a set's photos: what it was made of. It is written last, so that half a set has none.
RECIPE = "set.json"
VERSION = 1
# Segments of a JPEG file (ISO/IEC 10918-1, annex B): 0xFF 0xFE begins a comment.
START, COMMENT = b"\xff\xd8", b"\xff\xfe"


class SetError(Exception):
    """A set of photos can't be made; the message says why and what to do."""


@dataclass(frozen=True)
class SetSpec:
    """A set to be made: ``count`` files from ``bases`` different pictures.

    ``camera`` enlarges the pictures, None leaves them as they are.
    """

    name: str
    count: int
    bases: int
    camera: Camera | None = None


@dataclass(frozen=True)
class PhotoSet:
    """Photos on the disk, in folders of ``PER_FOLDER``; the number of photos, and their bytes."""

    name: str
    folder: Path
    count: int
    mean_bytes: int

    def first(self, count: int) -> PhotoSet:
        """Take the first photos alone, rounded up to whole folders."""
        return _describe_set(
            self.name, self.folder, min(self.count, -(-count // PER_FOLDER) * PER_FOLDER)
        )

    def folders(self) -> list[Path]:
        """Name the folders, in order."""
        return [self.folder / _folder(n) for n in range(0, self.count, PER_FOLDER)]

    def paths(self) -> list[Path]:
        """Name the photos, in order."""
        return [_path(self.folder, n) for n in range(self.count)]

    def sample_evenly(self, number: int) -> list[Path]:
        """Choose some photos, evenly spread over all of them."""
        paths = self.paths()
        return [paths[n * len(paths) // number] for n in range(min(number, len(paths)))]


def make_set(kind: SetSpec, source: Path, home: Path) -> PhotoSet:
    """Make a set in a folder of its own below ``home``, or find it there from another time.

    Raises:
        SetError: the source is no zip file of JPEGs, or the disk is too small.
        CameraError: a photo can't be brought to the weight of a camera's.
    """
    pictures = read_jpegs(source, kind.bases)
    folder = home / kind.name.replace(" ", "-")
    digest = hashlib.sha256(b"".join(pictures)).hexdigest()
    recipe = json.dumps({"version": VERSION, "pictures": digest, **asdict(kind)}, indent=2)
    noted = folder / RECIPE
    if not noted.is_file() or noted.read_text(encoding="utf-8") != recipe:
        shutil.rmtree(folder, ignore_errors=True)
        if kind.camera:
            pictures = [kind.camera.enlarge(picture) for picture in pictures]
        _fill(folder, kind, pictures)
        noted.write_text(recipe, encoding="utf-8")
    return _describe_set(kind.name, folder, kind.count)


def add_number_comment(jpeg: bytes, number: int) -> bytes:
    """Give a JPEG file a comment with a number, so that its bytes are like no other's.

    It goes behind the first segment, as JFIF and Exif both want to be that.
    """
    text = f"copy {number}".encode()
    behind = len(START) + 2 + int.from_bytes(jpeg[4:6], "big")
    comment = COMMENT + (len(text) + 2).to_bytes(2, "big") + text
    return jpeg[:behind] + comment + jpeg[behind:]


def read_jpegs(source: Path, most: int) -> list[bytes]:
    """Read the first JPEG files of a zip file, ``most`` of them or fewer.

    Raises:
        SetError: there are none.
    """
    remedy = "name a zip file with JPEGs: --photos photos.zip (make bench BENCH=photos.zip)"
    try:
        with zipfile.ZipFile(source) as pack:
            names = [name for name in pack.namelist() if name.lower().endswith(SUFFIXES)]
            files = [pack.read(name) for name in names[:most]]
    except (OSError, zipfile.BadZipFile) as error:
        reason = isinstance(error, OSError) and error.strerror
        raise SetError(
            f"can't read {source} ({reason or 'it is no zip file'}): {remedy}"
        ) from error
    pictures = [file for file in files if file.startswith(START)]
    if not pictures:
        raise SetError(f"there is no JPEG in {source}: {remedy}")
    return pictures


def _fill(folder: Path, kind: SetSpec, pictures: list[bytes]) -> None:
    needed = kind.count * sum(map(len, pictures)) // len(pictures)
    folder.mkdir(parents=True)
    if shutil.disk_usage(folder).free < needed:
        raise SetError(
            f"{kind.count} photos of {kind.name} need {needed / 1e9:.1f} GB, and the disk of "
            f"{folder} has less: name another folder with --sets, or measure with --quick"
        )
    for number in range(kind.count):
        path = _path(folder, number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(add_number_comment(pictures[number % len(pictures)], number))


def _describe_set(name: str, folder: Path, count: int) -> PhotoSet:
    sizes = [_path(folder, n).stat().st_size for n in range(count)]
    return PhotoSet(name, folder, count, sum(sizes) // count)


def _folder(number: int) -> str:
    return f"{number // PER_FOLDER:04}"


def _path(folder: Path, number: int) -> Path:
    return folder / _folder(number) / f"{number:06}.jpg"
