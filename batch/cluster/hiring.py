"""What an actor takes of a cluster, how many there is room for, and how one is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batch.cluster.actor import LabelActor, Orders
from batch.options import Options, Provider

if TYPE_CHECKING:
    from types import ModuleType

# Photos at a time in one actor: a core each, or what keeps a GPU busy.
WORKERS = 1
WORKERS_ON_A_GPU = 8
WORKERS_A_CORE_ON_A_GPU = 2


def for_actors(options: Options) -> Options:
    """Settle what is found out on each machine otherwise, for the run knows nothing of nodes."""
    provider = Provider.CPU if options.provider is Provider.AUTO else options.provider
    usual = WORKERS if provider is Provider.CPU else WORKERS_ON_A_GPU
    return replace(options, provider=provider, workers=options.workers or usual)


def cores_of(options: Options) -> int:
    """Count the cores of one actor; the options are those ``for_actors``."""
    workers = options.workers or WORKERS
    on_cpu = options.provider is Provider.CPU
    return workers if on_cpu else max(1, workers // WORKERS_A_CORE_ON_A_GPU)


def room_for(ray: ModuleType, options: Options) -> int:
    """Count the actors for which the cluster has room, if it had nothing else to do."""
    has = ray.cluster_resources()
    room = has.get("CPU", 0) // cores_of(options)
    if options.provider is not Provider.CPU:
        room = min(room, has.get("GPU", 0))
    return max(1, int(room))


def hiring(ray: ModuleType, kind: type[LabelActor], orders: Orders) -> Callable[[], Any]:
    """Make the function that starts an actor; the orders, with their models, are sent once."""
    actor = ray.remote(
        num_cpus=cores_of(orders.options),
        num_gpus=0 if orders.options.provider is Provider.CPU else 1,
        # The run replaces what has died: Ray would give it the same block again and again.
        max_restarts=0,
        # One call for labelling, and one to be told to stop meanwhile.
        max_concurrency=2,
    )(kind)
    given = ray.put(orders)
    return lambda: actor.remote(given)
