"""Why a run can't go on: exceptions that carry an exit code and a remedy."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller when it ends."""

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
    ExitCode.OK: "every photo was read and answered",
    ExitCode.FAILED: "the run failed; no report was published",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.INCOMPLETE: "the report is published, but some files could not be read or are missing",
    ExitCode.TIME_IS_UP: "the deadline or time limit came; what was done is kept",
    ExitCode.PUBLISHED_ONLY: "the report is published, but what follows it failed",
    ExitCode.DRIFTED: "the report is published, but its answers have drifted",
    ExitCode.LOCKED: "another run is writing the same report",
    ExitCode.HUNG_UP: "the terminal went away (SIGHUP); what was done is kept",
    ExitCode.INTERRUPTED: "interrupted from the keyboard; what was done is kept",
    ExitCode.TERMINATED: "told to end by SIGTERM; what was done is kept",
}


class BatchLabelError(Exception):
    """The run can't go on.

    ``str()`` of it is one line: what is wrong, with the file's name, then what to do.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class UsageError(BatchLabelError):
    """An argument or option can't be used as given."""

    exit_code = ExitCode.USAGE


class InputError(BatchLabelError):
    """A folder or file named as input does not exist."""

    exit_code = ExitCode.USAGE


class PhotoError(BatchLabelError):
    """The one photo that was asked about can't be read, or has no answer."""

    exit_code = ExitCode.INCOMPLETE


class OutputError(BatchLabelError):
    """The report can't be written."""


class OutputClosed(OutputError):
    """Nobody reads standard output any more, as after ``| head``: the program ends quietly."""


class ModelError(BatchLabelError):
    """A model is missing, broken, or does not keep the model contract."""


class ProviderError(BatchLabelError):
    """The execution provider that was asked for does not work."""


class WorkerError(BatchLabelError):
    """Worker processes or threads can't be started, or be given what they need."""


class EngineError(BatchLabelError):
    """The cluster can't do the work."""


class LockedError(BatchLabelError):
    """Another run holds the lock on the same report."""

    exit_code = ExitCode.LOCKED


class DriftError(BatchLabelError):
    """The report is published, and its answers differ too much from the last one's."""

    exit_code = ExitCode.DRIFTED


class PublishedOnly(BatchLabelError):
    """The report is published, and what follows that failed: such as the journal's last commit."""

    exit_code = ExitCode.PUBLISHED_ONLY


class TimeLimitReached(BatchLabelError):
    """The run's deadline or time limit came before it was done."""

    exit_code = ExitCode.TIME_IS_UP


class Interrupted(BatchLabelError):
    """A signal asked the run to end."""

    exit_code = ExitCode.INTERRUPTED


class Terminated(Interrupted):
    """SIGTERM asked the run to end."""

    exit_code = ExitCode.TERMINATED


class HungUp(Interrupted):
    """SIGHUP asked the run to end."""

    exit_code = ExitCode.HUNG_UP


class ReportError(InputError):
    """A report can't be read back."""
