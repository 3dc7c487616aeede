"""What keeps a process that reads what anybody may have made from harming any other."""

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
    # It loads numpy, and a worker is started before the run has time for that.
    from batch.vision.plan import LabellingPlan

# Added to how gladly the kernel kills it when memory runs short, in thousandths of that memory.
OOM_SCORE = 500


def limit_process(memory: int, largest_file: int) -> None:
    """Limit what this process may take besides what it has, and let it die before any other does.

    Args:
        memory: bytes of memory.
        largest_file: bytes of a file that it writes.
    """
    # Should the run have been started with the alarm blocked or ignored.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    _lower_limit(resource.RLIMIT_CORE, 0)
    _lower_limit(resource.RLIMIT_FSIZE, largest_file)
    with suppress(OSError):  # there is no /proc on macOS, nor does it enforce the limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower_limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
    with suppress(OSError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + OOM_SCORE)))


def _lower_limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(kind, (most, most))


# == How a worker, a process of its own, is started, and how it can end.

FEWER_WORKERS = "or ask for fewer --workers"
START_REMEDIES = {
    errno.EAGAIN: f"allow more processes (ulimit -u, TasksMax or pids.max), {FEWER_WORKERS}",
    errno.ENOMEM: f"free some memory, {FEWER_WORKERS}",
    errno.EMFILE: f"raise the limit on open files (ulimit -n), {FEWER_WORKERS}",
    errno.ENFILE: f"raise the system's limit on open files (fs.file-max), {FEWER_WORKERS}",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), which holds for memory too",
    errno.ENOSPC: f"free some memory, or space in the folder for temporary files, {FEWER_WORKERS}",
}
# Once a process has started, others do too, unless memory or processes run short for a while.
MAX_START_ATTEMPTS = 3
RETRY_SECONDS = 1.0  # seconds between them
EXIT_TIMEOUT_SECONDS = 2.0  # seconds for a process to be gone; a disk that hangs can hold it longer
DECODING_PROGRAM = "batch.workers.child"
LABELLING_PROGRAM = "batch.workers.labelling_child"
PLAN_WRITTEN = b"\1"
PACKAGE = Path(__file__).parent.parent
START_SCRIPT = Path(__file__).with_name("start.py")
# They come to a whole group of processes, but the run alone decides what becomes of them, and
# finishes what it has in hand.
GROUP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP}
WORKER_ENVIRONMENT = {
    # glibc: keep what one photo took for the next. To ask the kernel for it anew costs 0.3 ms for
    # a portrait of 350 pixels, which is decoded in 0.45 ms.
    "MALLOC_MMAP_THRESHOLD_": str(8 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(32 * 1024**2),
    # Numpy's sums, where numpy is needed at all, are not worth a thread a core.
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class LaunchedWorker:
    """A process that was started and loads its program: ``file`` is shared with it."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    file: BinaryIO

    def announce_plan(self) -> None:
        """Tell the process that its plan is in the file."""
        with suppress(ConnectionError):  # it is gone, which shows as its answer is waited for
            self.connection.sendall(PLAN_WRITTEN)

    def close(self) -> None:
        """End the process at once."""
        self.process.kill()
        # One that a disk holds is buried by `subprocess` when another one starts.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(EXIT_TIMEOUT_SECONDS)
        self.connection.close()
        self.file.close()


def launch_worker(program: str, file: BinaryIO, limits: FileLimits) -> LaunchedWorker:
    """Start a process that runs ``main`` of the module ``program``, and do not wait for it.

    Raises:
        WorkerError: it does not start.
    """
    try:
        with ExitStack() as undo:
            ours, theirs = map(undo.enter_context, socket.socketpair())
            process = start_process(program, theirs.fileno(), file.fileno(), limits)
            theirs.close()
            undo.pop_all()
    except OSError as error:
        raise make_system_error("a worker process does not start", error) from error
    return LaunchedWorker(process, ours, file)


def launch_early(limits: FileLimits) -> LaunchedWorker | None:
    """Start a worker that labels, and give it its plan later; None if it does not start.

    Then whoever needs one is told why.
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

    Of this process it inherits two descriptors and nothing else: ``connection``, a socket,
    and ``file``, what the program reads or writes.
    """
    flags = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    command = [
        *(sys.executable, *flags, str(START_SCRIPT)),
        *(str(PACKAGE), program, str(connection), str(file)),
        ",".join(map(str, astuple(limits))),
        # "" is wherever somebody stands.
        *(entry for entry in sys.path if entry),
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
    """Make a file of ``size`` bytes without a name, in memory where the system has such files.

    Raises:
        WorkerError: the system refuses.
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
    """Write all of what workers are to read into such a file.

    Raises:
        WorkerError: the system refuses.
    """
    with translate_sharing_errors():
        rest = memoryview(data)
        while rest:  # the system takes 2 GiB at a time at most
            rest = rest[file.write(rest) :]


def seal_file(file: BinaryIO) -> None:
    """Let nobody change such a file any more, if it is in memory."""
    if sys.platform == "linux":
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        with suppress(OSError):  # a file on disk, where the system has no others
            fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, seals)


@contextmanager
def translate_sharing_errors() -> Iterator[None]:
    """Turn what the system refuses of a file for workers into a ``WorkerError``."""
    try:
        yield
    except OSError as error:
        raise make_system_error("no memory can be shared with a worker process", error) from error


def _open_nameless_file() -> int:
    if sys.platform == "linux":
        try:
            return os.memfd_create("shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # as sandboxes have it
                raise
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def describe_exit(code: int) -> str:
    """Say in words how a process ended, from its return code."""
    if code >= 0:
        return f"ended with exit status {code}"
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL, as when memory runs short"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def make_start_error(why: str) -> WorkerError:
    """Make the exception for a process that can't be started."""
    return WorkerError(
        f"a worker process does not start ({why})",
        f"look whether {sys.executable} runs, and whether memory and processes are left",
    )


def make_system_error(what: str, error: OSError) -> WorkerError:
    """Make the exception for what the system refuses; ``what`` says what can't be done."""
    why = error.strerror or str(error)
    default = f"look whether {sys.executable} runs, and whether memory and processes are left"
    return WorkerError(f"{what} ({why})", START_REMEDIES.get(error.errno or 0, default))


@contextmanager
def _block_signals(signals: set[signal.Signals]) -> Iterator[None]:
    """Keep signals from this thread, and for good from the processes that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# == What a worker needs to label photos, as the run hands it over.


def write_plan(plan: LabellingPlan, file: BinaryIO) -> None:
    """Write a plan into a file that workers inherit, and that none of them can change."""
    write_shared(file, pickle.dumps(plan))
    seal_file(file)


def read_plan(descriptor: int) -> LabellingPlan:
    """Read the plan in an inherited file, from its start wherever others have read to.

    It is unpickled: only the run can have written it.
    """
    plan: LabellingPlan = pickle.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    return plan
