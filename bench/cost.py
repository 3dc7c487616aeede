"""What it costs to label very many photos: a model whose prices are assumptions, not facts.

``python -m bench.cost`` prints the table of docs/scale.md from the rates that docs/performance.md
shows.
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
    """US dollars, as they were assumed on ``date``: look up your own.

    For an hour of a core (on demand, with 2 to 4 GB of memory), for a thousand reads and a
    thousand writes of an object store, and for a gigabyte that leaves its region.
    """

    date: str = "2026-11-24"
    core_hour: float = 0.04
    thousand_reads: float = 0.0004
    thousand_writes: float = 0.005
    gigabyte_out: float = 0.02


@dataclass(frozen=True)
class PricedKind:
    """Photos of one kind: photos a second of one core, and bytes a photo."""

    name: str
    rate: float
    size: int


@dataclass(frozen=True)
class LabellingCost:
    """What ``photos`` of a kind take: hours of one core, terabytes, and dollars."""

    kind: PricedKind
    core_hours: float
    terabytes: float
    gigabits: float
    compute: float
    requests: float
    out: float


def read_measured_kinds(text: str) -> list[PricedKind]:
    """Read rates of one worker and sizes of photos from the tables of docs/performance.md.

    Photos without a face are not among them.
    """
    found = re.findall(r"^\| [\d,]+ ([^|]+) \| 1 worker \| ([\d.]+)", text, re.MULTILINE)
    rates = [(name, rate) for name, rate in found if NO_FACE not in name]
    sizes = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+) kB \|", text, re.MULTILINE))
    return [PricedKind(name, float(rate), 1000 * _number(sizes[name])) for name, rate in rates]


def estimate_cost(
    kind: PricedKind, prices: Prices, photos: int = PHOTOS, cores: int = CORES
) -> LabellingCost:
    """Work out what photos cost; ``gigabits`` a second are what ``cores`` read together."""
    core_hours = photos / kind.rate / HOUR_SECONDS
    parts = photos / FILES_PER_PART
    return LabellingCost(
        kind=kind,
        core_hours=core_hours,
        terabytes=photos * kind.size / 1e12,
        gigabits=cores * kind.rate * kind.size * 8 / 1e9,
        compute=core_hours * prices.core_hour,
        # A listing names a thousand objects, and is paid for as a write.
        requests=(photos * prices.thousand_reads + (photos / 1000 + parts) * prices.thousand_writes)
        / 1000,
        out=photos * kind.size / 1e9 * prices.gigabyte_out,
    )


def cost_table(kinds: Sequence[PricedKind], prices: Prices) -> str:
    """Write the costs as the Markdown of docs/scale.md."""
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


def _number(text: str) -> int:
    return int(text.replace(",", ""))


if __name__ == "__main__":
    sys.stdout.write(
        cost_table(read_measured_kinds(PERFORMANCE.read_text("utf-8")), Prices()) + "\n"
    )
