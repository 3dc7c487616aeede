"""The frozen records that pass from one stage to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from batch.location import Location, Url

if TYPE_CHECKING:  # numpy costs start-up time, and `--help` needs none of it
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

Pixels: TypeAlias = "npt.NDArray[np.uint8]"
Probabilities: TypeAlias = "npt.NDArray[np.float32]"


class Status(StrEnum):
    """How a photo came out; every photo has exactly one."""

    OK = "ok"
    UNSURE = "unsure"
    NEITHER = "neither"
    NO_PERSON = "no_person"
    NO_FACE = "no_face"
    FAILED = "failed"


# The statuses of an answer that has a label.
LABELLED_STATUSES = (Status.OK, Status.UNSURE)


class Abstain(StrEnum):
    """Outputs of a model that are no labels, but reasons not to give one.

    ``neither``: there is a face or a person, and it shows none of the labels; ``no_person``: the
    picture shows no person. A photo that gets no label for such a reason has the status of the same
    name.
    """

    NEITHER = Status.NEITHER.value
    NO_PERSON = Status.NO_PERSON.value


ABSTAIN_OUTPUTS = tuple(map(str, Abstain))
MAX_LABELS = 1000  # of a model, and so of a report
MAX_DETAIL_CHARS = 1000  # characters; servers may say any number


class Region(StrEnum):
    """What a model looks at."""

    FACE = "face"
    IMAGE = "image"


class Source(StrEnum):
    """Which part of a photo its answer rests on."""

    FACE = "face"
    IMAGE = "image"
    BOTH = "both"


class Stage(StrEnum):
    """Where a file failed."""

    READ = "read"
    DECODE = "decode"
    FACES = "faces"
    CLASSIFY = "classify"


class Reason(StrEnum):
    """Why a file failed, in one word that a program can match."""

    VANISHED = "vanished"
    UNREADABLE = "unreadable"
    NOT_A_FILE = "not_a_file"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED = "unsupported"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Failure:
    """A file that could not be labelled: a value in the stream, never an exception.

    ``detail`` is one line for people, cut off after ``MAX_DETAIL_CHARS`` characters, as every row of a
    report has to fit into a line that can be read back.
    """

    path: Location
    stage: Stage
    reason: Reason
    detail: str

    def __post_init__(self) -> None:
        if len(self.detail) > MAX_DETAIL_CHARS:
            object.__setattr__(self, "detail", f"{self.detail[: MAX_DETAIL_CHARS - 3]}...")


@dataclass(frozen=True)
class InMemoryFile:
    """A photo that the caller has: the bytes of a file, and the URL that its row has for a path."""

    url: Url
    data: bytes


@dataclass(frozen=True)
class FileState:
    """What a file was as it was read; None where that is unknown.

    ``size`` is in bytes, ``mtime_ns`` and ``ctime_ns`` in nanoseconds, ``digest`` a SHA-256;
    ``etag`` is what an object store calls this state of an object.
    """

    size: int | None = None
    mtime_ns: int | None = None
    digest: bytes | None = None
    etag: str | None = None
    ctime_ns: int | None = None
    inode: int | None = None


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    ``image``: RGB, upright; it may be smaller than the file's own ``width`` x ``height``
    (pixels, upright), see ``decode``. ``salvaged`` says what is wrong with a truncated file, and
    is empty for a whole one. ``load_detail`` gives the same photo with more
    pixels, if it is large enough to have them.
    """

    path: Location
    image: Image.Image
    width: int
    height: int
    salvaged: str = ""
    load_detail: Callable[[], Photo | Failure] | None = field(
        default=None, repr=False, compare=False
    )

    @cached_property
    def pixels(self) -> Pixels:
        """The image as an array: uint8 [height, width, 3]."""
        import numpy as np

        return np.asarray(self.image)

    @cached_property
    def detail(self) -> Photo | Failure | None:
        """The same photo with more pixels, decoded when it is first asked for; None without."""
        return self.load_detail() if self.load_detail else None


@dataclass(frozen=True)
class Box:
    """A face's place in pixels of the upright file, and the detector's score, 0 to 1.

    It may reach over the photo's edge. ``in_detail`` marks a face that was found in the photo's
    detail, and whose pixels are taken from there.
    """

    left: float
    top: float
    width: float
    height: float
    score: float
    in_detail: bool = field(default=False, compare=False, kw_only=True)

    @property
    def area(self) -> float:
        """Square pixels of the upright file."""
        return self.width * self.height


@dataclass(frozen=True)
class Evidence:
    """What detector and models say of one photo, before a label is decided.

    Attributes:
        boxes: its faces, the largest first.
        faces: float32 [len(boxes), outputs of the face model], each face's probabilities.
        image: float32 [1, outputs of the whole-photo model], the whole photo's probabilities, or
            [0, outputs] if that model was not run.
    """

    boxes: tuple[Box, ...]
    faces: Probabilities
    image: Probabilities


@dataclass(frozen=True)
class Answer:
    """The answer for one view, a face or a whole photo.

    Attributes:
        status: ``ok``, ``unsure``, ``neither`` or ``no_person``.
        label: the likeliest label, the first among equals; None if the status is ``neither`` or
            ``no_person``.
        confidence: 0 to 1, the probability of the label or, without one, of the status. If every
            photo is given a label, the label's share in the probability of all labels.
        probabilities: those of all labels and then of all abstain outputs, in the model's order;
            they sum to 1.
        box: the face, None for a whole photo.
    """

    status: Status
    label: str | None
    confidence: float
    probabilities: Mapping[str, float]
    box: Box | None = None


@dataclass(frozen=True)
class Row:
    """All that a run says of one file: the unit that is reported.

    ``answer`` is the photo's, with the box of its main face; ``faces`` holds one answer
    a face, the main face first. Both are empty where there is no face and where
    ``failure`` is set. ``width`` and ``height`` are None where the file was not decoded.
    ``salvaged`` says why only a part of the photo was looked at, and is empty for a whole
    one. ``missing`` marks what is known of a file that is no longer there, ``accepted`` a failure
    that was accepted earlier. ``position`` is the file's number among all that were found, where
    that is known.
    """

    path: Location
    status: Status
    answer: Answer | None = None
    source: Source | None = None
    faces: tuple[Answer, ...] = field(default=())
    width: int | None = None
    height: int | None = None
    failure: Failure | None = None
    salvaged: str = ""
    missing: bool = False
    accepted: bool = False
    position: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FinishedFile:
    """A row that was just made, with what its file was then.

    ``copied`` rows are those of another file with the same bytes. ``text`` is the row as
    ``pack_row`` writes it, empty if it is not at hand.
    """

    row: Row
    state: FileState | None = None
    copied: bool = False
    text: bytes = field(default=b"", repr=False, compare=False)


class PendingFile(NamedTuple):
    """A file that is to be labelled; ``may_be_known`` if another one may have the same bytes."""

    location: Location
    may_be_known: bool


@dataclass(frozen=True)
class WorkerResult:
    """What a worker made of a file, and of which state of it.

    ``content`` is a Row where workers label, or where one with the same bytes was known
    (``copied``). ``text`` is a row as the worker wrote it, empty if it did not. ``read_seconds``
    were spent on reading, ``seconds`` on the other stages.
    """

    content: Photo | Failure | Row
    state: FileState | None = None
    read_seconds: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    copied: bool = False
    text: bytes = b""
