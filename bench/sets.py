"""Photo sets for the measurements: the JPEGs of a zip file, as they are or enlarged.

The command recognises copies by their SHA-256 and skips them, so no two files of a set may have
the same bytes: each copy gets a number of its own in a JPEG comment.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import zipfile
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

PER_FOLDER = 20
SUFFIXES = (".jpg", ".jpeg")
# Describes the photos in the folder of a set. It is written last: an incomplete set has none.
RECIPE = "set.json"
VERSION = 1
# Segments of a JPEG file (ISO/IEC 10918-1, annex B): 0xFF 0xFE starts a comment.
START, COMMENT = b"\xff\xd8", b"\xff\xfe"

# Shot noise of a sensor grows with the square root of the light (photon arrivals are a Poisson
# process). The standard deviation in grey levels, at middle grey:
NOISE, MIDDLE_GREY = 4.0, 128.0
SEED = 20260101
SQUARES = 12  # per side, for shuffled photos
# JPEG qualities, tried in this order until the file has the wanted size.
QUALITIES = (95, 93, 90, 97, 85, 99, 75)


class SetError(Exception):
    """A photo set can't be made; the message names the cause and the remedy."""


class CameraError(Exception):
    """No JPEG quality gives a file of the wanted size."""


@dataclass(frozen=True)
class Camera:
    """A simulated camera that takes square photos.

    Attributes:
        side: pixels per side.
        least: the smallest file size, in bytes.
        most: the largest file size, in bytes.
        shuffled: whether photos are cut into squares that are shuffled. Such a photo has no face
            but costs what a photo of people costs otherwise.
    """

    side: int
    least: int
    most: int
    shuffled: bool = False

    def enlarge(self, jpeg: bytes) -> bytes:
        """Enlarge a photo, add noise, and encode it as a JPEG (4:2:0) of the wanted size.

        Raises:
            CameraError: no JPEG quality gives a file of that size.
        """
        with Image.open(BytesIO(jpeg)) as image:
            size = (self.side, self.side)
            large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            light = np.asarray(
                _shuffle_squares(large) if self.shuffled else large, dtype=np.float32
            )
        noisy = light + np.sqrt(light / MIDDLE_GREY) * _draw_noise(self.side)
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        for quality in QUALITIES:
            file = BytesIO()
            picture.save(file, "JPEG", quality=quality)
            if self.least <= file.tell() <= self.most:
                return file.getvalue()
        raise CameraError(
            f"no JPEG quality brings a photo of {self.side} x {self.side} pixels to between "
            f"{self.least:,} and {self.most:,} bytes; use photos with more or less detail"
        )


def _shuffle_squares(image: Image.Image) -> Image.Image:
    side = image.width // SQUARES
    corners = [(x * side, y * side) for x in range(SQUARES) for y in range(SQUARES)]
    others = np.random.default_rng(SEED).permutation(corners).tolist()
    result = image.copy()
    for corner, (x, y) in zip(corners, others, strict=True):
        result.paste(image.crop((x, y, x + side, y + side)), corner)
    return result


@functools.lru_cache(maxsize=1)
def _draw_noise(side: int) -> npt.NDArray[np.float32]:
    """Draw noise, float32 [side, side, 3]; cached, because it is slow and may be reused."""
    drawn = np.random.default_rng(SEED).standard_normal((side, side, 3), dtype=np.float32)
    return drawn * np.float32(NOISE)


@dataclass(frozen=True)
class SetSpec:
    """A photo set to make.

    Attributes:
        name: the name of the set, which tables show.
        count: the number of files.
        bases: the number of different pictures; files beyond that are numbered copies.
        camera: enlarges the pictures; None to use them as they are.
    """

    name: str
    count: int
    bases: int
    camera: Camera | None = None


@dataclass(frozen=True)
class PhotoSet:
    """Photos on disk, in folders of ``PER_FOLDER`` photos.

    Attributes:
        name: the name of the set, which tables show.
        folder: the folder that contains the folders.
        count: the number of photos.
        mean_bytes: the mean size of a photo, in bytes.
    """

    name: str
    folder: Path
    count: int
    mean_bytes: int

    def first(self, count: int) -> PhotoSet:
        """Return the set of the first photos, rounded up to whole folders."""
        return _describe_set(
            self.name, self.folder, min(self.count, -(-count // PER_FOLDER) * PER_FOLDER)
        )

    def folders(self) -> list[Path]:
        """List the folders, in order."""
        return [_photo_path(self.folder, n).parent for n in range(0, self.count, PER_FOLDER)]

    def paths(self) -> list[Path]:
        """List the photos, in order."""
        return [_photo_path(self.folder, n) for n in range(self.count)]

    def sample_evenly(self, number: int) -> list[Path]:
        """Choose photos evenly spread over the set."""
        paths = self.paths()
        return [paths[n * len(paths) // number] for n in range(min(number, len(paths)))]


def make_set(spec: SetSpec, source: Path, home: Path) -> PhotoSet:
    """Make a photo set in a folder of its own below ``home``, or reuse the one already there.

    Raises:
        SetError: the source is not a zip file of JPEGs, or the disk is too small.
        CameraError: a photo can't be encoded at the file size of a camera.
    """
    pictures = read_jpegs(source, spec.bases)
    folder = home / spec.name.replace(" ", "-")
    digest = hashlib.sha256(b"".join(pictures)).hexdigest()
    recipe = json.dumps({"version": VERSION, "pictures": digest, **asdict(spec)}, indent=2)
    recipe_file = folder / RECIPE
    if not recipe_file.is_file() or recipe_file.read_text(encoding="utf-8") != recipe:
        shutil.rmtree(folder, ignore_errors=True)
        if spec.camera:
            pictures = [spec.camera.enlarge(picture) for picture in pictures]
        _write_photos(folder, spec, pictures)
        recipe_file.write_text(recipe, encoding="utf-8")
    return _describe_set(spec.name, folder, spec.count)


def read_jpegs(source: Path, most: int) -> list[bytes]:
    """Read the first JPEG files of a zip file, at most ``most``.

    Raises:
        SetError: the file can't be read, or contains no JPEG.
    """
    remedy = "name a zip file with JPEGs: --photos photos.zip (make bench BENCH=photos.zip)"
    try:
        with zipfile.ZipFile(source) as pack:
            names = [name for name in pack.namelist() if name.lower().endswith(SUFFIXES)]
            files = [pack.read(name) for name in names[:most]]
    except (OSError, zipfile.BadZipFile) as error:
        reason = isinstance(error, OSError) and error.strerror
        raise SetError(f"can't read {source} ({reason or 'not a zip file'}): {remedy}") from error
    pictures = [file for file in files if file.startswith(START)]
    if not pictures:
        raise SetError(f"no JPEG in {source}: {remedy}")
    return pictures


def add_number_comment(jpeg: bytes, number: int) -> bytes:
    """Add a comment with a number to a JPEG file, which makes its bytes unique.

    The comment follows the first segment, because JFIF and Exif headers must come first.
    """
    text = f"copy {number}".encode()
    at = len(START) + 2 + int.from_bytes(jpeg[4:6], "big")
    comment = COMMENT + (len(text) + 2).to_bytes(2, "big") + text
    return jpeg[:at] + comment + jpeg[at:]


def _write_photos(folder: Path, spec: SetSpec, pictures: list[bytes]) -> None:
    needed = spec.count * sum(map(len, pictures)) // len(pictures)
    folder.mkdir(parents=True)
    if shutil.disk_usage(folder).free < needed:
        raise SetError(
            f"{folder}: not enough free space for {spec.count} photos of {spec.name} "
            f"({needed / 1e9:.1f} GB); name another folder with --sets, or measure with --quick"
        )
    for number in range(spec.count):
        path = _photo_path(folder, number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(add_number_comment(pictures[number % len(pictures)], number))


def _describe_set(name: str, folder: Path, count: int) -> PhotoSet:
    sizes = [_photo_path(folder, n).stat().st_size for n in range(count)]
    return PhotoSet(name, folder, count, sum(sizes) // count)


def _photo_path(folder: Path, number: int) -> Path:
    return folder / f"{number // PER_FOLDER:04}" / f"{number:06}.jpg"
