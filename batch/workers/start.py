"""The script that starts a worker process: imports a program and runs its ``main``.

It imports ``batch`` from the run's own package folder, without running ``batch/__init__.py``, and
all else from the run's ``sys.path``. The working directory does not matter.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from types import ModuleType


def main(package: str, program: str, connection: str, pixels: str, limits: str, *path: str) -> None:
    """Run a module's ``main``; an import error is sent on ``connection``.

    Args:
        package: folder of the package ``batch``.
        program: name of the module.
        connection: descriptor of the socket to the run.
        pixels: descriptor of the file that the run shares with the process.
        limits: the fields of ``FileLimits``, joined by commas.
        path: entries of ``sys.path``.
    """
    sys.path[:] = path
    sys.modules["batch"] = batch = ModuleType("batch")
    batch.__path__ = [package]
    gc.disable()  # imports leave no garbage; this saves 5 % of their time
    try:
        module = importlib.import_module(program)
    except BaseException as error:
        os.write(int(connection), f"{type(error).__name__}: {error}\n".encode(errors="replace"))
        sys.exit(1)
    gc.freeze()
    gc.enable()
    module.main(int(connection), int(pixels), *map(int, limits.split(",")))
    os._exit(0)  # nothing is buffered, and unloading the libraries would take longer than a photo


if __name__ == "__main__":
    main(*sys.argv[1:])
