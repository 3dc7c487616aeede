"""Cost model for labelling very many photos; its prices are assumptions.

``python -m bench.cost`` prints the table of docs/scale.md from the rates in docs/performance.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.plan import NO_FACE

PERFORMANCE = Path(__file__).parent.parent / "docs" / "performance.md"
PHOTOS = 100_000_000
HOUR_SECONDS = 3_600
CORES = 1_000
FILES_PER_PART = 1_024


@dataclass(frozen=True)
class Prices:
    """Assumed prices in US dollars; look up your own.

    Attributes:
        date: the date of the assumptions.
        core_hour: an hour of a core on demand, with 2 to 4 GB of memory.
        thousand_reads: a thousand reads from an object store.
        thousand_writes: a thousand writes to an object store.
        gigabyte_out: a gigabyte transferred out of the region of the store.
    """

    date: str = "2026-11-24"
    core_hour: float = 0.04
    thousand_reads: float = 0.0004
    thousand_writes: float = 0.005
    gigabyte_out: float = 0.02


@dataclass(frozen=True)
class PricedKind:
    """A kind of photos.

    Attributes:
        name: the name of the kind.
        rate: photos per second on one core.
        size: bytes per photo.
    """

    name: str
    rate: float
    size: int


@dataclass(frozen=True)
class LabellingCost:
    """The cost of labelling a number of photos of one kind.

    Attributes:
        kind: the kind of photos.
        core_hours: hours of one core.
        terabytes: terabytes read.
        gigabits: gigabits per second that all cores read together.
        compute: US dollars for the cores.
        requests: US dollars for requests to the store.
        out: US dollars for reading from another region.
    """

    kind: PricedKind
    core_hours: float
    terabytes: float
    gigabits: float
    compute: float
    requests: float
    out: float


def read_measured_kinds(text: str) -> list[PricedKind]:
    """Read the rates of one worker and the sizes of photos from the text of docs/performance.md.

    Photos without a face are skipped.
    """
    found = re.findall(r"^\| [\d,]+ ([^|]+) \| 1 worker \| ([\d.]+)", text, re.MULTILINE)
    rates = [(name, rate) for name, rate in found if NO_FACE not in name]
    sizes = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+) kB \|", text, re.MULTILINE))
    return [
        PricedKind(name, float(rate), 1000 * int(sizes[name].replace(",", "")))
        for name, rate in rates
    ]


def estimate_cost(
    kind: PricedKind, prices: Prices, photos: int = PHOTOS, cores: int = CORES
) -> LabellingCost:
    """Estimate the cost of labelling photos on some cores."""
    core_hours = photos / kind.rate / HOUR_SECONDS
    parts = photos / FILES_PER_PART
    return LabellingCost(
        kind=kind,
        core_hours=core_hours,
        terabytes=photos * kind.size / 1e12,
        gigabits=cores * kind.rate * kind.size * 8 / 1e9,
        compute=core_hours * prices.core_hour,
        # A listing request names a thousand objects, and is billed as a write.
        requests=(photos * prices.thousand_reads + (photos / 1000 + parts) * prices.thousand_writes)
        / 1000,
        out=photos * kind.size / 1e9 * prices.gigabyte_out,
    )


def cost_table(kinds: Sequence[PricedKind], prices: Prices) -> str:
    """Format the costs as the Markdown table of docs/scale.md."""
    head = (
        "Photos",
        "Core-hours",
        f"Hours on {CORES:,} cores",
        "Read",
        f"By {CORES:,} cores at a time",
        "Cores",
        "Requests",
        "If it leaves the region",
    )
    rows = [
        (
            cost.kind.name,
            f"{cost.core_hours:,.0f}",
            f"{cost.core_hours / CORES:.1f}",
            f"{cost.terabytes:,.1f} TB",
            f"{cost.gigabits:,.0f} Gbit/s",
            f"${cost.compute:,.0f}",
            f"${cost.requests:,.0f}",
            f"${cost.out:,.0f} more",
        )
        for cost in (estimate_cost(kind, prices) for kind in kinds)
    ]
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(
        cost_table(read_measured_kinds(PERFORMANCE.read_text("utf-8")), Prices()) + "\n"
    )
