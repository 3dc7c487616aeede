"""Frozen records that pass between the stages of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from batch.location import Location, Url

if TYPE_CHECKING:  # importing numpy would slow down `--help`
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

Pixels: TypeAlias = "npt.NDArray[np.uint8]"
Probabilities: TypeAlias = "npt.NDArray[np.float32]"


class Status(StrEnum):
    """Outcome of a photo; each photo has exactly one."""

    OK = "ok"
    UNSURE = "unsure"
    NEITHER = "neither"
    NO_PERSON = "no_person"
    NO_FACE = "no_face"
    FAILED = "failed"


# Statuses of an answer with a label.
LABELLED_STATUSES = (Status.OK, Status.UNSURE)


class Abstain(StrEnum):
    """Outputs of a model that are not labels but reasons not to give one.

    ``neither``: a face or person shows none of the labels. ``no_person``: the photo shows no
    person. A photo without a label for such a reason has the status of the same name.
    """

    NEITHER = Status.NEITHER.value
    NO_PERSON = Status.NO_PERSON.value


ABSTAIN_OUTPUTS = tuple(map(str, Abstain))
# Statuses of a photo with an answer.
ANSWERED_STATUSES = (*LABELLED_STATUSES, *map(Status, Abstain))
MAX_LABELS = 1000  # of a model or report
MAX_DETAIL_CHARS = 1000  # characters of ``Failure.detail``
# Intersection over union from which two boxes are of the same face: those of two models or
# programs, or of two versions of a detector.
MIN_FACE_OVERLAP = 0.5


class Region(StrEnum):
    """Input of a model: a face, or the whole photo."""

    FACE = "face"
    IMAGE = "image"


class Source(StrEnum):
    """What a photo's answer is based on: its face, the whole photo, both, or a person's review."""

    FACE = "face"
    IMAGE = "image"
    BOTH = "both"
    REVIEW = "review"


class Stage(StrEnum):
    """Stage at which a file failed."""

    READ = "read"
    DECODE = "decode"
    FACES = "faces"
    CLASSIFY = "classify"


class Reason(StrEnum):
    """Why a file failed, for programs."""

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

    Attributes:
        path: the file.
        stage: where it failed.
        reason: why it failed, for programs.
        detail: why it failed, for people: one line, cut off after ``MAX_DETAIL_CHARS`` characters
            to limit the size of a row.
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
    """A photo that the caller holds in memory.

    Attributes:
        url: stands for the path in the photo's row.
        data: the bytes of an image file.
    """

    url: Url
    data: bytes


@dataclass(frozen=True)
class FileState:
    """State of a file when it was read; a field is None if unknown.

    Attributes:
        size: bytes.
        mtime_ns: time of last modification, nanoseconds since 1970.
        digest: SHA-256 of its bytes.
        etag: entity tag of an object in a store.
        ctime_ns: time of last status change, nanoseconds since 1970.
        inode: inode number.
    """

    size: int | None = None
    mtime_ns: int | None = None
    digest: bytes | None = None
    etag: str | None = None
    ctime_ns: int | None = None
    inode: int | None = None


@dataclass(frozen=True)
class Capture:
    """When, with what and where a photo was taken, from its EXIF tags; a field is None if unknown.

    Attributes:
        taken: local time of the camera, ``2026-01-31T18:04:05``, with ``+01:00`` at its end if the
            file states the offset from UTC.
        camera: maker and model, on one printable line.
        latitude: degrees, -90 to 90, north is positive.
        longitude: degrees, -180 to 180, east is positive.
    """

    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


NO_CAPTURE = Capture()


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Attributes:
        path: the file.
        image: RGB, upright; may be shrunk, see ``decode``.
        width: pixels of the upright file.
        height: pixels of the upright file.
        salvaged: what is wrong with a truncated file; empty for a complete one.
        capture: when, with what and where it was taken.
        load_detail: decodes the same photo with more pixels; None if it has no more.
    """

    path: Location
    image: Image.Image
    width: int
    height: int
    salvaged: str = ""
    capture: Capture = NO_CAPTURE
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
        """The same photo with more pixels, decoded on first access; None if it has no more."""
        return self.load_detail() if self.load_detail else None


@dataclass(frozen=True)
class Box:
    """Bounding box of a face, in pixels of the upright file; may extend beyond its edges.

    Attributes:
        left: pixels from the left edge.
        top: pixels from the top edge.
        width: pixels.
        height: pixels.
        score: the detector's score, 0 to 1.
        in_detail: whether the face was found in the photo's detail, and is cropped from it.
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

    def compute_overlap(self, other: Box) -> float:
        """Compute the intersection over union with another box; 0 if neither has an area."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        down = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        shared = max(across, 0.0) * max(down, 0.0)
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0


@dataclass(frozen=True)
class Evidence:
    """Outputs of the detector and the models for one photo, from which its answer is decided.

    Attributes:
        boxes: the faces, the largest first.
        faces: float32 [len(boxes), outputs of the face model], probabilities per face.
        image: float32 [1, outputs of the whole-photo model], probabilities of the whole photo;
            [0, outputs] if that model was not run.
    """

    boxes: tuple[Box, ...]
    faces: Probabilities
    image: Probabilities


@dataclass(frozen=True)
class Answer:
    """The answer for a face or a whole photo.

    Attributes:
        status: ``ok``, ``unsure``, ``neither`` or ``no_person``.
        label: the likeliest label, the first of equal ones; None if the status is ``neither`` or
            ``no_person``.
        confidence: 0 to 1, the probability of the label or, without one, of the status. With
            ``Options.always_answer`` the label's share in the probability of all labels.
        probabilities: by label and then by abstain output, in the model's order; they sum to 1.
        box: the face; None for a whole photo.
        reviewed: whether a person gave the answer: then the confidence is 1, and the probabilities
            are still the model's.
    """

    status: Status
    label: str | None
    confidence: float
    probabilities: Mapping[str, float]
    box: Box | None = None
    reviewed: bool = False


@dataclass(frozen=True)
class Row:
    """The result for one file, as reported.

    Attributes:
        path: the file.
        status: its result.
        answer: the photo's answer, with the box of its main face; None without an answer.
        source: what the answer is based on; None without an answer.
        faces: one answer per face, the main face first.
        width: pixels of the upright file; None if it was not decoded.
        height: pixels of the upright file; None if it was not decoded.
        failure: why the file failed; None unless the status is ``failed``.
        salvaged: why only a part of the photo was labelled; empty for a complete one.
        capture: when, with what and where the photo was taken.
        sha256: SHA-256 of the file's bytes; None if it could not be read.
        missing: whether the file is missing, and this is its row from an earlier run.
        accepted: whether the failure was accepted earlier.
        position: number of the file among all files found, from 1; None if unknown.
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
    capture: Capture = NO_CAPTURE
    sha256: bytes | None = field(default=None, compare=False)
    missing: bool = False
    accepted: bool = False
    position: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FinishedFile:
    """The row of a file that this run processed.

    Attributes:
        row: the row.
        state: state of the file when it was read.
        copied: whether the row was copied from a file with the same bytes.
        text: the row as ``pack_row`` serialises it; empty if it was not serialised.
    """

    row: Row
    state: FileState | None = None
    copied: bool = False
    text: bytes = field(default=b"", repr=False, compare=False)


class PendingFile(NamedTuple):
    """A file to label.

    Attributes:
        location: the file.
        may_be_known: whether a known file may have the same bytes, so that a digest is worth its
            time.
    """

    location: Location
    may_be_known: bool


@dataclass(frozen=True)
class WorkerResult:
    """A worker's result for a file.

    Attributes:
        content: a Row if workers label or a file with the same bytes was known; else the decoded
            photo, or why it failed.
        state: state of the file when it was read.
        read_seconds: seconds spent reading.
        seconds: seconds by each other stage.
        copied: whether the row was copied from a file with the same bytes.
        text: the row as the worker serialised it; empty if it did not.
    """

    content: Photo | Failure | Row
    state: FileState | None = None
    read_seconds: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    copied: bool = False
    text: bytes = b""
