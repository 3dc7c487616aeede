"""What keeps a process that reads what anybody may have made from harming any other."""

from __future__ import annotations

import resource
import signal
from contextlib import suppress
from pathlib import Path

# Added to how gladly the kernel kills it when memory runs short, in thousandths of that memory.
OOM_SCORE = 500


def guard(memory: int, largest_file: int) -> None:
    """Limit what this process may take besides what it has, and let it die before any other does.

    Args:
        memory: bytes of memory.
        largest_file: bytes of a file that it writes.
    """
    # Should the run have been started with the alarm blocked or ignored.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, largest_file)
    with suppress(OSError):  # there is no /proc on macOS, nor does it enforce the limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
    with suppress(OSError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + OOM_SCORE)))


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(kind, (most, most))
