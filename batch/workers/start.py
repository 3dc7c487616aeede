"""The first lines of a process that decodes photos, run by their file's name.

Whatever folder it is started in, it finds the modules that the run has found: this very
package, without what ``__init__`` offers to users, and by the run's own path all else.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from types import ModuleType


def main(package: str, program: str, connection: str, pixels: str, limits: str, *path: str) -> None:
    """Run a module's ``main``; what keeps it from being imported is said on ``connection``."""
    sys.path[:] = path
    sys.modules["batch"] = batch = ModuleType("batch")
    batch.__path__ = [package]
    # Nothing that is loaded becomes garbage: not to look for any takes a twentieth of the time.
    gc.disable()
    try:
        module = importlib.import_module(program)
    except BaseException as error:
        os.write(int(connection), f"{type(error).__name__}: {error}\n".encode(errors="replace"))
        sys.exit(1)
    gc.freeze()
    gc.enable()
    module.main(int(connection), int(pixels), *map(int, limits.split(",")))
    # Nothing is buffered, and to take all libraries apart would take longer than a photo does.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
