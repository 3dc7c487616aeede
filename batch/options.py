"""Option records of a run: frozen dataclasses that the command line builds.

``Job`` holds all of them. docs/usage.md describes the options of the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from posixpath import splitext

from batch.errors import UsageError
from batch.exclude import Exclusion, compile_exclusion
from batch.file_types import RAW_SUFFIXES, SKIP_REASONS, SUFFIXES
from batch.found import FoundFile, to_nanoseconds
from batch.limits import Limits
from batch.location import Location, is_archive
from batch.path_text import printable_text
from batch.shard import Shard

DECODE_TIMEOUT = 30  # seconds; photos of MAX_PIXELS take up to about 4 on an idle core
MAX_PIXELS = 100_000_000  # held in memory while a photo is decoded
MAX_FILE_BYTES = 512 * 1024**2
MAX_SIDE = 1280  # pixels; photos are shrunk until their longer side is at most this
MAX_DETAIL_PIXELS = 12_500_000  # of a photo's detail, see ``decode.compute_detail_size``

# A face model, and the whole-photo model for photos without a face.
DEFAULT_MODEL = "happy-sad+people"
DEFAULT_BATCH_SIZE = 32
DEFAULT_KEYWORD_ROOT = "expression"  # the keyword above labels in XMP sidecars

# Reason for skipping a file that was last changed before ``Search.newer_than``.
TOO_OLD = "older"

# Called for each file that is skipped, with its location and the reason.
OnSkip = Callable[[Location, str], None]


@dataclass(frozen=True)
class FileLimits:
    """Limits on reading and decoding one file; a file that exceeds one fails alone.

    Attributes:
        decode_timeout: seconds to read, decode and label a photo.
        max_pixels: pixels held in memory while a photo is decoded.
        max_file_size: bytes of a file.

    Raises:
        UsageError: a limit is not a whole number of at least 1.
    """

    decode_timeout: int = DECODE_TIMEOUT
    max_pixels: int = MAX_PIXELS
    max_file_size: int = MAX_FILE_BYTES

    def __post_init__(self) -> None:
        if any(type(limit) is not int or limit < 1 for limit in astuple(self)):
            raise UsageError(
                f"file limits {astuple(self)} are invalid", "give whole numbers of at least 1"
            )


@dataclass(frozen=True)
class Search:
    """Which files of folders, archives and stores are photos to label.

    Attributes:
        recursive: enter sub-folders.
        hidden: include names with a leading dot.
        follow_symlinks: follow symbolic links inside a folder.
        archives: read the archives in a folder.
        raws: include camera raws.
        exclude: patterns with the syntax of .gitignore, relative to each input; matching files
            and folders are skipped, as are the junk folders of ``exclude.JUNK_PATTERNS``.
        newer_than: skip files that were last changed before this time, which is local if it has
            no time zone; None to skip none.

    Raises:
        UsageError: a pattern is invalid.
    """

    recursive: bool = True
    hidden: bool = False
    follow_symlinks: bool = False
    archives: bool = False
    raws: bool = False
    exclude: tuple[str, ...] = ()
    newer_than: datetime | None = None

    def __post_init__(self) -> None:
        patterns = (self.exclude,) if isinstance(self.exclude, str) else tuple(self.exclude)
        object.__setattr__(self, "exclude", patterns)
        compile_exclusion(patterns)  # raises UsageError

    @property
    def exclusion(self) -> Exclusion:
        """The compiled exclude patterns."""
        return compile_exclusion(self.exclude)

    def skip_older(self, files: Iterable[FoundFile], on_skip: OnSkip) -> Iterable[FoundFile]:
        """Skip files that were last changed before ``newer_than``; keep those of unknown time."""
        if self.newer_than is None:
            return files
        return self._skip_before(files, to_nanoseconds(self.newer_than) or 0, on_skip)

    def _skip_before(
        self, files: Iterable[FoundFile], earliest_ns: int, on_skip: OnSkip
    ) -> Iterator[FoundFile]:
        for file in files:
            if file.mtime_ns is None or file.mtime_ns >= earliest_ns:
                yield file
            else:
                on_skip(file.location, TOO_OLD)

    def find_skip_reason(self, inside: str, above: str = "") -> str | None:
        """Return why a file in a store or archive is skipped; None if it is to be labelled.

        Args:
            inside: the file's path in the store or archive.
            above: the prefix of that path for exclude patterns.
        """
        # If the folder "." was packed, all names begin with "./".
        parts = [part for part in inside.split("/") if part not in ("", ".", "..")] or [""]
        why = self.exclusion.match_path(above + "/".join(parts))
        if why:
            return why
        if not self.hidden and any(part.startswith(".") for part in parts):
            return "hidden"
        if not self.recursive and len(parts) > 1:
            return "in a subfolder"
        suffix = splitext(parts[-1])[1].lower()
        if suffix in SUFFIXES or (self.archives and is_archive(inside)):
            return None
        if suffix in RAW_SUFFIXES and self.raws:
            return None
        return "archive" if is_archive(inside) else SKIP_REASONS.get(suffix, "no image")


class Provider(StrEnum):
    """Execution provider of ONNX Runtime; ``auto`` is CUDA, or the CPU if CUDA does not work."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


class ConvolutionSearch(StrEnum):
    """How cuDNN chooses the algorithm of a convolution.

    ``EXHAUSTIVE`` tries all, ``HEURISTIC`` uses a rule, ``DEFAULT`` takes a fixed one.

    Source: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
    """

    EXHAUSTIVE = "exhaustive"
    HEURISTIC = "heuristic"
    DEFAULT = "default"


@dataclass(frozen=True)
class Device:
    """Where models run.

    Attributes:
        provider: the execution provider.
        devices: numbers of its devices. Devices run the inputs of many callers in batches of a
            fixed size; if empty, as on the CPU, each caller runs the model by itself.
        engine_cache: folder for TensorRT's engines; None to keep none.
        search: how cuDNN chooses algorithms. ``HEURISTIC``, as trying all algorithms takes
            longer than a run over a few photos.
    """

    provider: Provider = Provider.CPU
    devices: tuple[int, ...] = ()
    engine_cache: Path | None = None
    search: ConvolutionSearch = ConvolutionSearch.HEURISTIC

    def with_default_device(self) -> Device:
        """Select the first device if the provider needs one and none is named."""
        if self.provider is Provider.CPU or self.devices:
            return self
        return replace(self, devices=(0,))


@dataclass(frozen=True)
class Options:
    """How photos are found and labelled.

    Attributes:
        model: name of a shipped model or path of an .onnx file, or two of them joined by ``+``.
        provider: execution provider of the models.
        devices: numbers of the GPUs; empty for the first.
        engine_cache: folder for TensorRT's engines; None to build them on every start.
        batch_size: crops per call of a model.
        workers: photos processed at the same time; None for the number of cores.
        min_confidence: 0 to 1; a label less likely than this is unsure. None for the threshold in
            the model's metadata.
        always_answer: give every photo its likeliest label; abstain outputs are ignored.
        per_face: search a photo for small faces even if large ones settle its answer.
        salvage: label the part of a truncated photo that can be read.
        with_location: read the photos' coordinates.
        search: which files of a folder are photos to label.
        shard: label only the files of this shard; None for all.
        file_limits: limits on reading and decoding one file.

    Raises:
        UsageError: a number is out of range.
    """

    model: str = DEFAULT_MODEL
    provider: Provider = Provider.AUTO
    devices: tuple[int, ...] = ()
    engine_cache: Path | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    workers: int | None = None
    min_confidence: float | None = None
    always_answer: bool = False
    per_face: bool = False
    salvage: bool = False
    with_location: bool = False
    search: Search = field(default_factory=Search)
    shard: Shard | None = None
    file_limits: FileLimits = field(default_factory=FileLimits)

    def __post_init__(self) -> None:
        confidence = self.min_confidence
        if confidence is not None and not 0 <= confidence <= 1:
            raise UsageError(f"min_confidence is {confidence}", "give a probability, from 0 to 1")
        for name, number in (("batch_size", self.batch_size), ("workers", self.workers)):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}", "give 1 or more")

    @property
    def device(self) -> Device:
        """Where the models run."""
        return Device(self.provider, self.devices, self.engine_cache)


class EngineKind(StrEnum):
    """What labels the photos: this machine or a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class ClusterOptions:
    """What labels the photos, and the options of a cluster.

    Attributes:
        engine: the machine or cluster that labels.
        ray_address: Ray's address of the cluster; None to start one for the run.
        actors: concurrency limit; None for as many as the cluster has room for.
        parts: folder or URL for the actors' results; None for a folder beside the report.
    """

    engine: EngineKind = EngineKind.LOCAL
    ray_address: str | None = None
    actors: int | None = None
    parts: str | None = None


@dataclass(frozen=True)
class JournalOptions:
    """How a run uses the journal of earlier runs.

    Attributes:
        state: path of the journal; None for the one beside the report.
        fresh: discard the journal and label every photo.
        verify_hash: read every file to detect changes, instead of comparing size and times.
        ignore_inode: treat a file as unchanged even if its ctime or inode number differs.
        keep_missing: keep the rows of files that are gone.
        accept_failures: treat this run's failures as known ones in later runs.
    """

    state: Path | None = None
    fresh: bool = False
    verify_hash: bool = False
    ignore_inode: bool = False
    keep_missing: bool = False
    accept_failures: bool = False


class SidecarName(StrEnum):
    """Name of the sidecar of photo.jpg: ``photo.jpg.xmp`` or ``photo.xmp``."""

    FULL = "full"
    STEM = "stem"


@dataclass(frozen=True)
class SidecarOptions:
    """How labels are written into XMP sidecars.

    Attributes:
        sidecar_name: name of a sidecar.
        keyword_root: the keyword above the labels; ``|`` separates its levels.
        faces: mark faces as regions.
    """

    sidecar_name: SidecarName = SidecarName.FULL
    keyword_root: str = DEFAULT_KEYWORD_ROOT
    faces: bool = False


@dataclass(frozen=True)
class Job:
    """One run of the command: its inputs, its output and all options.

    Attributes:
        photos: inputs as given on the command line.
        output: report as given on the command line.
        per_face: write one row per face.
        options: how photos are found and labelled.
        journal: how the journal is used.
        limits: limits on time, failures and photos that are gone.
        cluster: what labels the photos.
        wait: wait for another run of the same report.
        metrics_file: textfile for Prometheus; None for none.
        fail_on_drift: fail if the answers differ too much from those of earlier runs.
        accept_drift: make this run's answers the baseline of later runs.
        xmp: write the labels into XMP sidecars after publishing.
        sidecars: how they are written.
        reviews: the reviews file of a report at a URL; None for no reviews. Other reports have
            theirs beside them.
        forget_reviews: report the model's answers again, and set the reviews file aside.
        keep: how many versions of the report its history folder keeps; None for no history.
        require_file: marker files without which the run is refused: absolute paths, or paths
            relative to each input.
    """

    photos: tuple[str, ...]
    output: str
    per_face: bool = False
    options: Options = field(default_factory=Options)
    journal: JournalOptions = field(default_factory=JournalOptions)
    limits: Limits = field(default_factory=Limits)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    wait: bool = False
    metrics_file: Path | None = None
    fail_on_drift: bool = False
    accept_drift: bool = False
    xmp: bool = False
    sidecars: SidecarOptions = field(default_factory=SidecarOptions)
    reviews: Path | None = None
    forget_reviews: bool = False
    keep: int | None = None
    require_file: tuple[str, ...] = ()


_NUMBER = re.compile(r"([0-9]{1,15})(?:([KMG])(iB|B)?)?")
_EXPONENTS = {None: 0, "K": 1, "M": 2, "G": 3}
# Larger than any memory, and small enough for arithmetic in 64 bits.
_LARGEST_LIMIT = 10**15


def parse_max_pixels(text: str) -> int:
    """Parse a number of pixels: ``100M``, ``1G`` or ``25000000``.

    Raises:
        UsageError: the text is not a number of pixels.
    """
    match = _NUMBER.fullmatch(text)
    pixels = int(match[1]) * 1000 ** _EXPONENTS[match[2]] if match and not match[3] else 0
    if 0 < pixels <= _LARGEST_LIMIT:
        return pixels
    raise UsageError(
        f"--max-pixels {printable_text(text)} is not a number of pixels",
        "give a number, such as 25000000, or millions, such as 100M",
    )


def parse_max_file_size(text: str) -> int:
    """Parse a size in bytes: ``512MiB`` or ``512M``, ``500MB`` or ``536870912``.

    Raises:
        UsageError: the text is not a size.
    """
    match = _NUMBER.fullmatch(text)
    base = 1000 if match and match[3] == "B" else 1024
    size = int(match[1]) * base ** _EXPONENTS[match[2]] if match else 0
    if 0 < size <= _LARGEST_LIMIT:
        return size
    raise UsageError(
        f"--max-file-size {printable_text(text)} is not a size",
        "give a number of bytes, or one with K, M or G, such as 512M",
    )
