"""What a run is told, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from batch.decoding.file_limits import FileLimits
from batch.errors import UsageError
from batch.limits import Limits
from batch.sharding.shard import Shard
from batch.sources.walk import Search

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
class Place:
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
    def place(self) -> Place:
        """Where the models are to run."""
        return Place(self.provider, self.devices, self.engine_cache)


class EngineKind(StrEnum):
    """Where photos are labelled: on this machine, or on a cluster."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class Cluster:
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
class Memory:
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
    memory: Memory = field(default_factory=Memory)
    limits: Limits = field(default_factory=Limits)
    cluster: Cluster = field(default_factory=Cluster)
    wait: bool = False
    metrics_file: Path | None = None
    fail_on_drift: bool = False
    accept_drift: bool = False
