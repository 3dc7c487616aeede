"""How many actors there are, and what one takes of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batch.options import Options, Provider

if TYPE_CHECKING:
    from types import ModuleType

# Photos at a time in one actor: a core each, or what keeps a GPU busy.
WORKERS = 1
WORKERS_ON_A_GPU = 8
WORKERS_A_CORE_ON_A_GPU = 2


@dataclass(frozen=True)
class Pool:
    """Actors at most, 0 for as many as there is room for, and the cores and GPUs of each."""

    size: int
    cores: int
    gpus: int

    @classmethod
    def of(cls, options: Options, actors: int | None) -> Pool:
        """Make the pool for options that are ``for_actors``."""
        workers = options.workers or WORKERS
        if options.provider is Provider.CPU:
            return cls(actors or 0, workers, 0)
        return cls(actors or 0, max(1, workers // WORKERS_A_CORE_ON_A_GPU), 1)

    def fitted(self, ray: ModuleType) -> Pool:
        """Fill a cluster that has nothing else to do, unless a number of actors was named."""
        has = ray.cluster_resources()
        room = has.get("CPU", 0) // self.cores
        if self.gpus:
            room = min(room, has.get("GPU", 0) // self.gpus)
        return replace(self, size=self.size or max(1, int(room)))


def for_actors(options: Options) -> Options:
    """Settle what is found out on each machine otherwise, for the run knows nothing of nodes."""
    provider = Provider.CPU if options.provider is Provider.AUTO else options.provider
    usual = WORKERS if provider is Provider.CPU else WORKERS_ON_A_GPU
    return replace(options, provider=provider, workers=options.workers or usual)
