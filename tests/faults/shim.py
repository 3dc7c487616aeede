"""The shim that counts a process's system calls and kills it, or refuses one, at a chosen call."""

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

# What changes files: their content, what is safe on the disk, their names, files opened for
# writing, and lengths.
CHANGES = ("write", "sync", "name", "open", "size")
# What reads them.
READS = ("read", "look")
# Requests to servers.
SENDS = ("send",)

KILL, TEAR = "kill", "tear"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    Attributes:
        act: ``kill``, ``tear`` (a write writes half, then the process is killed), or the name of an
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
        """Read a fault as ``str`` writes it."""
        act, _, rest = text.partition("@")
        at, _, kinds = rest.partition(":")
        return cls(act.rstrip("+"), int(at), tuple(kinds.split(",")), act.endswith("+"))


@functools.cache
def build_shim() -> Path | None:
    """Compile the shim, once for each text of it; None if there is no C compiler."""
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
        if ran.returncode:  # a compiler without the headers of the C library
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
    """Give the variables that load the shim over the files in ``folder``, but for those ``spared``.

    Without a fault it counts calls of ``kinds``.
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
