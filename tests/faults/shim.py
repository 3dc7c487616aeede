"""Interface of the shim, which counts system calls and injects a fault at a chosen call."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")

# Kinds of calls that change files: writes, syncs, changes of names, opens for writing, truncation.
CHANGES = ("write", "sync", "name", "open", "size")
# Kinds of calls that read files.
READS = ("read", "look")
# Kinds of calls that send requests to servers.
SENDS = ("send",)

KILL, TEAR = "kill", "tear"


@dataclass(frozen=True)
class Fault:
    """A fault and the call at which it is injected.

    Attributes:
        act: ``kill``, ``tear`` (write half of the bytes, then kill the process), or the name of an
            error, such as ``EIO``.
        at: the number of the call, from 1.
        kinds: the kinds of calls that count.
        lasting: whether all later calls fail as well, as on a full disk.
    """

    act: str
    at: int
    kinds: tuple[str, ...] = CHANGES
    lasting: bool = False

    @property
    def kills(self) -> bool:
        """Whether the process is killed."""
        return self.act in (KILL, TEAR)

    def __str__(self) -> str:
        lasting = "+" if self.lasting else ""
        return f"{self.act}{lasting}@{self.at}:{','.join(self.kinds)}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse the text that ``str`` gives."""
        act, _, rest = text.partition("@")
        at, _, kinds = rest.partition(":")
        return cls(act.rstrip("+"), int(at), tuple(kinds.split(",")), act.endswith("+"))


@functools.cache
def build_shim() -> Path | None:
    """Compile the shim, once per version of its source; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"faults-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    shim = folder / f"{digest}.so"
    if not shim.exists():
        draft = shim.with_name(f"{digest}.{os.getpid()}.so")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(draft), str(SOURCE), "-ldl"]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:  # the headers of the C library are missing
            return None
        draft.replace(shim)
    return shim


def shim_environment(
    shim: Path,
    folder: Path,
    log: Path,
    fault: Fault | None = None,
    kinds: tuple[str, ...] = CHANGES,
    spared: tuple[str, ...] = (),
) -> dict[str, str]:
    """Return the environment variables that load and configure the shim.

    Args:
        shim: the compiled shim.
        folder: the folder whose files count.
        log: the file for the log of counted calls.
        fault: the fault; None to count calls only.
        kinds: the kinds of calls to count without a fault.
        spared: names of files in the folder that do not count.
    """
    act = fault.act if fault else KILL
    return {
        "LD_PRELOAD": str(shim),
        "FAULTS_BELOW": str(folder),
        "FAULTS_EXCEPT": ":".join(str(folder / name) for name in spared),
        "FAULTS_KINDS": ",".join(fault.kinds if fault else kinds),
        "FAULTS_AT": str(fault.at if fault else 0),
        "FAULTS_ACT": act if act in (KILL, TEAR) else str(getattr(errno, act)),
        "FAULTS_LASTING": "1" if fault and fault.lasting else "0",
        "FAULTS_LOG": str(log),
    }
