"""What a run is told, as one frozen record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, field
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

DECODE_TIMEOUT = 30  # seconds; the slowest pictures of MAX_PIXELS take about 4 on an idle core


MAX_PIXELS = 100_000_000


MAX_FILE_BYTES = 512 * 1024**2


MAX_SIDE = 1280  # pixels: what a photo's longer side is brought below


MAX_DETAIL_PIXELS = 12_500_000  # of a photo's detail, see ``decode.detail_size``


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


OnSkip = Callable[[Location, str], None]


# Why a file is left out that was changed before ``Search.newer_than``.
TOO_OLD = "older"


@dataclass(frozen=True)
class Search:
    """How folders are searched.

    Attributes:
        recursive: look into sub-folders.
        hidden: take names with a leading dot too.
        follow_symlinks: take what symbolic links inside a folder lead to.
        archives: take what is in the archives of a folder.
        raws: take camera raws.
        exclude: patterns with the syntax of .gitignore, relative to each input; folders and files
            that match are left out, as are the well-known folders without photos.
        newer_than: leave out files that were last changed before this time, local unless it has a
            zone; None for all.

    Raises:
        UsageError: a pattern is wrong.
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
        compile_exclusion(patterns)  # which refuses wrong ones

    @property
    def exclusion(self) -> Exclusion:
        """The patterns, compiled."""
        return compile_exclusion(self.exclude)

    def skip_older(self, files: Iterable[FoundFile], on_skip: OnSkip) -> Iterable[FoundFile]:
        """Leave out files that were last changed before ``newer_than``; of some it is unknown."""
        if self.newer_than is None:
            return files
        return self._newer(files, to_nanoseconds(self.newer_than) or 0, on_skip)

    def _newer(
        self, files: Iterable[FoundFile], earliest: int, on_skip: OnSkip
    ) -> Iterator[FoundFile]:
        for file in files:
            if file.mtime_ns is None or file.mtime_ns >= earliest:
                yield file
            else:
                on_skip(file.location, TOO_OLD)

    def find_skip_reason(self, inside: str, above: str = "") -> str | None:
        """Say why a file in a store or archive is left out, by its path in there.

        Exclude patterns see its path with ``above`` in front.
        """
        # Archives that were made of "." have it in front of all names.
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


# A face model, and the whole-photo model that speaks with it and where there is no face.
DEFAULT_MODEL = "happy-sad+people"
DEFAULT_BATCH_SIZE = 32


class Provider(StrEnum):
    """What runs a model; ``auto`` is CUDA where it works and else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


class ConvolutionSearch(StrEnum):
    """How cuDNN finds the fastest way to compute a convolution.

    By trying all of them, by a rule, or not at all. Source:
    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
    """

    EXHAUSTIVE = "exhaustive"
    HEURISTIC = "heuristic"
    DEFAULT = "default"


@dataclass(frozen=True)
class Device:
    """Where models run: a provider, and the numbers of its devices.

    Without ``devices`` every caller runs a model by itself; on devices, inputs of many callers are
    gathered into batches of a fixed size. ``engine_cache`` is the folder for TensorRT's engines,
    None to keep none. The search is by a rule, for a run of a few photos must not wait until all
    ways are tried.
    """

    provider: Provider = Provider.CPU
    devices: tuple[int, ...] = ()
    engine_cache: Path | None = None
    search: ConvolutionSearch = ConvolutionSearch.HEURISTIC


@dataclass(frozen=True)
class Options:
    """How photos are found and labelled: the options of the command line, by their names.

    ``search`` and ``file_limits`` hold some more of them; docs/usage.md has all.

    Attributes:
        model: name of a shipped model or path of an .onnx file, or two of them joined by ``+``.
        provider: what runs the models.
        devices: numbers of the GPUs; empty for the first.
        engine_cache: folder for TensorRT's engines; None to build them on every start.
        batch_size: crops in one call of a model.
        workers: photos worked on at the same time; None for as many as there are cores.
        min_confidence: 0 to 1; a label less likely than this is unsure. None for the threshold in
            the model's metadata.
        always_answer: give every photo its likeliest label; abstain outputs are ignored.
        per_face: search a photo for small faces even if large ones settle its answer.
        salvage: label the part of a truncated photo that can be read.
        search: which files of a folder are looked at.
        shard: label only the files of this shard; None for all.
        file_limits: what one file may cost.

    Raises:
        UsageError: a number is out of its range.
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
    search: Search = field(default_factory=Search)
    shard: Shard | None = None
    file_limits: FileLimits = field(default_factory=FileLimits)

    def __post_init__(self) -> None:
        least = self.min_confidence
        if least is not None and not 0 <= least <= 1:
            raise UsageError(f"min_confidence is {least}", "give a probability, from 0 to 1")
        for name, number in (("batch_size", self.batch_size), ("workers", self.workers)):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}", "give 1 or more")

    @property
    def device(self) -> Device:
        """Where the models are to run."""
        return Device(self.provider, self.devices, self.engine_cache)


class EngineKind(StrEnum):
    """Where photos are labelled: on this machine, or on a cluster."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class ClusterOptions:
    """Where a run labels, and what a cluster is told.

    ``ray_address`` is Ray's name of a cluster, None for one that is started for the run;
    ``actors`` work at most at a time, None for as many as there is room for; ``parts`` is the
    folder or URL where they leave what they have done, None for one beside the report.
    """

    engine: EngineKind = EngineKind.LOCAL
    ray_address: str | None = None
    actors: int | None = None
    parts: str | None = None


@dataclass(frozen=True)
class JournalOptions:
    """What a run does with what earlier runs left.

    ``state`` is the journal, None for the one beside the report; ``fresh`` forgets it;
    ``state`` is the journal, None for the one beside the report; ``fresh`` forgets it;
    ``verify_hash`` reads every file to see whether it has changed; ``ignore_inode`` takes a file
    for unchanged although its ctime or inode differ; ``keep_missing`` keeps the rows of files that
    are gone; ``accept_failures`` takes this run's failures for known ones.
    """

    state: Path | None = None
    fresh: bool = False
    verify_hash: bool = False
    ignore_inode: bool = False
    keep_missing: bool = False
    accept_failures: bool = False


@dataclass(frozen=True)
class Job:
    """All that a run of the command is asked for.

    ``photos`` and ``output`` are as on the command line; with ``wait`` the run waits for
    another one of the same report; with ``fail_on_drift`` it fails where the answers differ
    much from those of earlier runs, unless ``accept_drift`` takes them for the usual ones.
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


# == What one file may cost: time, pixels and bytes, and how many pixels are made of it.


_NUMBER = re.compile(r"([0-9]{1,15})(?:([KMG])(iB|B)?)?")
_POWERS = {None: 0, "K": 1, "M": 2, "G": 3}
# More than any machine has, and small enough to be counted with.
_MOST = 10**15


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
        f"--max-pixels {printable_text(text)} is no number of pixels",
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
        f"--max-file-size {printable_text(text)} is no size",
        "write a number of bytes, or one with K, M or G, such as 512M",
    )
