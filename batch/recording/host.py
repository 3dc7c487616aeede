"""What a run runs on: the machine, and the versions of what answers depend on."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

# Whichever of its builds is installed.
_ONNX_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


@dataclass(frozen=True)
class HostRecord:
    """The machine, and the cores that the run was allowed."""

    name: str
    system: str
    cores: int


def installed_versions() -> dict[str, str | None]:
    """Look up the versions of what answers depend on; None for what is not installed."""
    return {
        "batch-label": version_of("batch-label"),
        "python": platform.python_version(),
        "onnxruntime": next(filter(None, map(version_of, _ONNX_RUNTIMES)), None),
        "pillow": version_of("pillow"),
        "numpy": version_of("numpy"),
    }


def this_host(cores: int) -> HostRecord:
    """Describe this machine; ``cores`` are those that the process may use."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return HostRecord(platform.node(), system, cores)


def version_of(package: str) -> str | None:
    """Look up a package's version; None if it is not installed, as in a copy of the source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
