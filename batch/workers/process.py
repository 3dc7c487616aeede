"""Starts worker processes, shares files with them and limits their resources.

A process inherits a socket and an unnamed file from the run. ``launch_early`` starts one before the
run knows its models, so that it loads its libraries meanwhile; ``announce_plan`` then tells it that
its plan is in the file. ``protocol.py`` describes what follows.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from batch.errors import WorkerError
from batch.options import FileLimits

if TYPE_CHECKING:
    # For type checkers only: it loads numpy, which would delay the first worker.
    from batch.vision.plan import LabellingPlan

FEWER_WORKERS = "or use fewer --workers"
START_REMEDIES = {
    errno.EAGAIN: f"allow more processes (ulimit -u, TasksMax or pids.max), {FEWER_WORKERS}",
    errno.ENOMEM: f"free some memory, {FEWER_WORKERS}",
    errno.EMFILE: f"raise the limit on open files (ulimit -n), {FEWER_WORKERS}",
    errno.ENFILE: f"raise the system's limit on open files (fs.file-max), {FEWER_WORKERS}",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), which applies to memory too",
    errno.ENOSPC: f"free some memory, or space in the temporary folder, {FEWER_WORKERS}",
}
# Attempts in a row. Once a process has started, a later failure is mostly a temporary shortage of
# memory or processes.
MAX_START_ATTEMPTS = 3
RETRY_SECONDS = 1.0  # between these attempts
EXIT_TIMEOUT_SECONDS = 2.0  # for a process to exit; with hung disk I/O it takes longer
DECODING_PROGRAM = "batch.workers.child"
LABELLING_PROGRAM = "batch.workers.labelling_child"
PLAN_WRITTEN = b"\1"
# Added to the process's OOM score (0 to 1000), so that the kernel kills it before the run.
OOM_SCORE = 500
PACKAGE = Path(__file__).parent.parent
START_SCRIPT = Path(__file__).with_name("start.py")
# Signals to the whole process group, which workers ignore: the run decides when they end.
GROUP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP}
WORKER_ENVIRONMENT = {
    # glibc: keep freed memory for the next photo. Getting it from the kernel again costs 0.3 ms for
    # a portrait of 350 pixels, which takes 0.45 ms to decode.
    "MALLOC_MMAP_THRESHOLD_": str(8 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(32 * 1024**2),
    # NumPy's few sums are not worth a thread per core.
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class LaunchedWorker:
    """A worker process that was started and loads its program.

    Attributes:
        process: the process.
        connection: the run's end of the socket.
        file: the file that the process has inherited, for the plan or for pixels.
    """

    process: subprocess.Popen[bytes]
    connection: socket.socket
    file: BinaryIO

    def announce_plan(self) -> None:
        """Tell the process that its plan is in the file."""
        with suppress(ConnectionError):  # it is gone; waiting for its greeting reports that
            self.connection.sendall(PLAN_WRITTEN)

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        # A process hung in disk I/O is reaped when `subprocess` starts another one.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(EXIT_TIMEOUT_SECONDS)
        self.connection.close()
        self.file.close()


def launch_worker(program: str, file: BinaryIO, limits: FileLimits) -> LaunchedWorker:
    """Start a process that runs ``main`` of the module ``program``, without waiting for it.

    Raises:
        WorkerError: the process can't be started.
    """
    try:
        with ExitStack() as undo:
            ours, theirs = map(undo.enter_context, socket.socketpair())
            process = start_process(program, theirs.fileno(), file.fileno(), limits)
            theirs.close()
            undo.pop_all()
    except OSError as error:
        raise make_system_error("a worker process did not start", error) from error
    return LaunchedWorker(process, ours, file)


def launch_early(limits: FileLimits) -> LaunchedWorker | None:
    """Start a labelling worker before its plan is known.

    Returns:
        The worker; None if it can't be started: the start of the next worker reports the error.
    """
    file = None
    try:
        file = create_shared_file()
        return launch_worker(LABELLING_PROGRAM, file, limits)
    except WorkerError:
        if file:
            file.close()
        return None


def start_process(
    program: str, connection: int, file: int, limits: FileLimits
) -> subprocess.Popen[bytes]:
    """Start a process that runs ``main`` of the module ``program``.

    It inherits two descriptors only: ``connection``, a socket, and ``file``, which the program
    reads or writes.
    """
    flags = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    command = [
        *(sys.executable, *flags, str(START_SCRIPT)),
        *(str(PACKAGE), program, str(connection), str(file)),
        ",".join(map(str, astuple(limits))),
        *(entry for entry in sys.path if entry),  # "" is the working directory
    ]
    with _block_signals(GROUP_SIGNALS):
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(connection, file),
            env=os.environ | WORKER_ENVIRONMENT,
        )


def create_shared_file(size: int = 0) -> BinaryIO:
    """Create an unnamed file of ``size`` bytes, in memory if the system supports it.

    Raises:
        WorkerError: memory, disk space or descriptors run short.
    """
    with translate_sharing_errors():
        descriptor = _open_nameless_file()
        try:
            os.truncate(descriptor, size)
        except OSError:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "r+b", buffering=0)


def write_shared(file: BinaryIO, data: bytes) -> None:
    """Write all of the data to a file from ``create_shared_file``.

    Raises:
        WorkerError: memory or disk space runs short.
    """
    with translate_sharing_errors():
        rest = memoryview(data)
        while rest:  # a call writes 2 GiB at most
            rest = rest[file.write(rest) :]


def seal_file(file: BinaryIO) -> None:
    """Make a file from ``create_shared_file`` permanently read-only, if it is in memory."""
    if sys.platform == "linux":
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        with suppress(OSError):  # a file on disk
            fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, seals)


def write_plan(plan: LabellingPlan, file: BinaryIO) -> None:
    """Write a plan to a file from ``create_shared_file``, and make it read-only."""
    write_shared(file, pickle.dumps(plan))
    seal_file(file)


def read_plan(descriptor: int) -> LabellingPlan:
    """Read the plan from an inherited file, whose position other processes share.

    Unpickling is safe, as only the run writes the file.
    """
    plan: LabellingPlan = pickle.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    return plan


@contextmanager
def translate_sharing_errors() -> Iterator[None]:
    """Raise a ``WorkerError`` for an ``OSError`` of a shared file."""
    try:
        yield
    except OSError as error:
        raise make_system_error("no memory can be shared with a worker process", error) from error


def _open_nameless_file() -> int:
    if sys.platform == "linux":
        try:
            return os.memfd_create("shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # a sandbox forbids it
                raise
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def describe_exit(code: int) -> str:
    """Describe how a process ended, by its return code."""
    if code >= 0:
        return f"ended with exit status {code}"
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL, as when memory runs short"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def make_start_error(why: str) -> WorkerError:
    """Make the exception for a process that did not start."""
    return WorkerError(f"a worker process did not start ({why})", _default_remedy())


def make_system_error(problem: str, error: OSError) -> WorkerError:
    """Make the exception for an ``OSError``, with the remedy for its cause."""
    why = error.strerror or str(error)
    remedy = START_REMEDIES.get(error.errno or 0, _default_remedy())
    return WorkerError(f"{problem} ({why})", remedy)


def _default_remedy() -> str:
    return f"check that {sys.executable} runs, and that memory and processes are not exhausted"


@contextmanager
def _block_signals(signals: set[signal.Signals]) -> Iterator[None]:
    """Block signals in this thread for now, and permanently in the processes that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def limit_process(memory: int, largest_file: int) -> None:
    """Set resource limits and the OOM score of this process.

    Args:
        memory: bytes of memory that the process may add to those in use.
        largest_file: size in bytes up to which the process may write a file.
    """
    # The process may have inherited a blocked or ignored alarm.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    _lower_limit(resource.RLIMIT_CORE, 0)
    _lower_limit(resource.RLIMIT_FSIZE, largest_file)
    with suppress(OSError):  # macOS has no /proc and does not enforce the limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower_limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
    with suppress(OSError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + OOM_SCORE)))


def _lower_limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(kind, (most, most))
