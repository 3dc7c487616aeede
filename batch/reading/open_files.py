"""How many files a process may have open at once."""

from __future__ import annotations

import resource

from batch.errors import InputError

# Files that a process has open beside those that are counted.
OTHER_FILES = 64


def allow_open_files(number: int, what: str) -> None:
    """Let this process have so many files open, beside some others; messages say ``what`` they are.

    Raises:
        InputError: the system allows fewer.
    """
    needed = number + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"{what} can't be open at once: the system allows {hard} files",
            f"raise its limit: ulimit -n {needed}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
