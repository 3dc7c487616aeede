"""Exceptions that end a run, each with an exit code and a remedy.

A failed photo is not an exception but a ``records.Failure``. The hierarchy, with exit codes::

    BatchLabelError             1    the run can't continue
    ├── UsageError              2    an argument or option is invalid
    ├── InputError              2    an input does not exist or can't be read
    │   ├── ReportError         2    a report can't be read back
    │   └── SidecarError        2    an XMP sidecar is damaged or not XMP
    ├── PhotoError              3    the single photo of the command has no answer
    ├── OutputError             1    a file of the run can't be written
    │   └── OutputClosed        1    the reader of standard output is gone
    ├── ModelError              1    a model is missing, broken or breaks the model contract
    ├── ProviderError           1    the requested execution provider does not work
    ├── WorkerError             1    a worker process or thread can't be started
    ├── EngineError             1    the cluster can't label
    ├── TimeLimitReached        4    the deadline or time limit was reached
    ├── PublishedOnly           5    a step after publishing the report failed
    ├── DriftError              6    the report is published, but its answers have drifted
    ├── LockedError            11    another run holds the lock of the report
    └── Interrupted           130    SIGINT stopped the run
        ├── HungUp            129    SIGHUP stopped the run
        └── Terminated        143    SIGTERM stopped the run
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit status of the process; ``EXIT_MEANINGS`` describes each."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INCOMPLETE = 3
    TIME_IS_UP = 4
    PUBLISHED_ONLY = 5
    DRIFTED = 6
    LOCKED = 11
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_MEANINGS = {
    ExitCode.OK: "success: every file was read, apart from accepted failures",
    ExitCode.FAILED: "the run failed; no report was published",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.INCOMPLETE: "the report is published, but some files could not be read or are missing",
    ExitCode.TIME_IS_UP: "the deadline or time limit was reached; finished photos are kept",
    ExitCode.PUBLISHED_ONLY: "the report is published, but a later step failed",
    ExitCode.DRIFTED: "the report is published, but its answers have drifted",
    ExitCode.LOCKED: "another run is writing the same report",
    ExitCode.HUNG_UP: "the terminal was closed (SIGHUP); finished photos are kept",
    ExitCode.INTERRUPTED: "interrupted from the keyboard (SIGINT); finished photos are kept",
    ExitCode.TERMINATED: "stopped by SIGTERM; finished photos are kept",
}


class BatchLabelError(Exception):
    """The run can't continue.

    ``str()`` is one line: ``problem; remedy``.

    Attributes:
        problem: what is wrong, with the name of the file or option.
        remedy: what the user can do about it, as an imperative.
        exit_code: the exit status of a process that this exception ends.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


# Before a run starts


class UsageError(BatchLabelError):
    """An argument or option is invalid."""

    exit_code = ExitCode.USAGE


class InputError(BatchLabelError):
    """An input does not exist or can't be read."""

    exit_code = ExitCode.USAGE


class ReportError(InputError):
    """A report can't be read back."""


class SidecarError(InputError):
    """An XMP sidecar can't be read or changed, or a keyword can't be written into one.

    ``problem`` does not name the file, because the functions of ``batch.xmp`` see only its bytes.
    """


class ModelError(BatchLabelError):
    """A model is missing, broken or breaks the model contract."""


class ProviderError(BatchLabelError):
    """The requested execution provider does not work."""


class LockedError(BatchLabelError):
    """Another run holds the lock of the report."""

    exit_code = ExitCode.LOCKED


# During a run


class PhotoError(BatchLabelError):
    """The single photo of the command can't be read or has no answer."""

    exit_code = ExitCode.INCOMPLETE


class OutputError(BatchLabelError):
    """A file of the run (report, journal, record, ...) can't be written."""


class OutputClosed(OutputError):
    """The reader of standard output is gone, as after ``| head``; the process ends silently."""


class WorkerError(BatchLabelError):
    """A worker process or thread can't be started or lacks a resource."""


class EngineError(BatchLabelError):
    """The cluster can't label."""


class TimeLimitReached(BatchLabelError):
    """The deadline or time limit was reached before all photos were labelled."""

    exit_code = ExitCode.TIME_IS_UP


class Interrupted(BatchLabelError):
    """A signal stopped the run. This class stands for SIGINT, its subclasses for others."""

    exit_code = ExitCode.INTERRUPTED


class Terminated(Interrupted):
    """SIGTERM stopped the run."""

    exit_code = ExitCode.TERMINATED


class HungUp(Interrupted):
    """SIGHUP stopped the run."""

    exit_code = ExitCode.HUNG_UP


# After the report is published


class PublishedOnly(BatchLabelError):
    """A step after publishing the report failed, such as the journal's last commit."""

    exit_code = ExitCode.PUBLISHED_ONLY


class DriftError(BatchLabelError):
    """The answers of the published report differ too much from those of earlier runs."""

    exit_code = ExitCode.DRIFTED
