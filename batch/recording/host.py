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
        "batch-label": _version("batch-label"),
        "python": platform.python_version(),
        "onnxruntime": next(filter(None, map(_version, _ONNX_RUNTIMES)), None),
        "pillow": _version("pillow"),
        "numpy": _version("numpy"),
    }


def this_host(cores: int) -> HostRecord:
    """Describe this machine; ``cores`` are those that the process may use."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return HostRecord(platform.node(), system, cores)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
