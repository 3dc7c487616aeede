"""Results as tables, for a terminal or as the Markdown of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.cluster import Clustered
from bench.containment import Containment
from bench.driver import Driver
from bench.growth import Growth
from bench.night import Night
from bench.peers import Peer
from bench.results import Results
from bench.speed import Speed
from bench.stages import STAGES
from bench.waits import Waits


@dataclass(frozen=True)
class Table:
    """A title, the columns' names, and rows of as many texts."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def aligned(self) -> str:
        """Lay the table out for a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        cells = (map(str.ljust, line, widths) for line in lines)
        return "\n".join([self.title, *(f"  {'  '.join(line)}".rstrip() for line in cells)])

    def markdown(self) -> str:
        """Write the table as Markdown, under its title."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join([f"### {self.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])


def written(results: Results, markdown: bool) -> str:
    """Write all tables, with the machine and the versions in front."""
    form: Callable[[Table], str] = Table.markdown if markdown else Table.aligned
    return "\n\n".join([setting(results), *map(form, tables(results))])


def setting(results: Results) -> str:
    """Say on what was measured."""
    machine, versions = results.machine, results.versions
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    memory = f", {machine.memory_gib} GiB" if machine.memory_gib else ""
    return (
        f"{results.date}: {machine.processor}, {machine.cores} cores{memory},\n"
        f"{machine.system};\n{packages}."
    )


def tables(results: Results) -> Iterator[Table]:
    """Give a table for each part that was measured."""
    if results.speed:
        yield stages_table(results.speed)
        yield speed_table(results.speed)
    if results.waits:
        yield waits_table(results.waits)
    if results.peer:
        yield peer_table(results.peer)
    if results.growth:
        yield growth_table(results.growth)
    if results.containment:
        yield containment_table(results.containment)
    if results.night:
        yield night_table(results.night)
    if results.clustered:
        yield ray_table(results.clustered)
    if results.drivers:
        yield driver_table(results.drivers)


def stages_table(speeds: Sequence[Speed]) -> Table:
    """Milliseconds of each stage on one core, and what the machine's cores are worth."""
    columns = ("Photos", "Size", *STAGES, "Sum", "One core", "All cores are worth")
    rows = [
        (
            speed.photos,
            f"{speed.mean_bytes / 1000:,.0f} kB",
            *(f"{speed.stages_ms[stage].median:.3g} ms" for stage in STAGES),
            f"{speed.sum_ms.text()} ms",
            f"{speed.one_core.median:.3g}/s",
            speed.scaling.text(".2f"),
        )
        for speed in speeds
    ]
    return Table("Stages on one core", columns, rows)


def speed_table(speeds: Sequence[Speed]) -> Table:
    """The command's rates, and how much of what the cores could give they are."""
    columns = (
        "Photos",
        "Setting",
        "Photos a second",
        "Of the floor",
        "Of what the machine gives",
        "To one worker",
    )
    rows = [
        (
            f"{speed.count:,} {speed.photos}",
            reached.setting,
            reached.rate.text(),
            reached.of_floor.text(".0%"),
            reached.of_machine.text(".0%"),
            reached.to_one_worker.text(".2f"),
        )
        for speed in speeds
        for reached in speed.reached
    ]
    return Table("The command", columns, rows)


def waits_table(waits: Waits) -> Table:
    """What a person waits for, in seconds."""
    named = {
        "--help": waits.help,
        "Models open": waits.models_open,
        "First label": waits.first_label,
        "One photo, report published": waits.one_photo,
    }
    rows = [(name, f"{figure.text('.2f')} s") for name, figure in named.items()]
    return Table("Waits", ("From a process's start to", "Time"), rows)


def peer_table(peer: Peer) -> Table:
    """The peer and the command on one core."""
    name = " ".join(("fer", peer.versions.get("fer", "")))
    rows = [(name, f"{peer.count:,}", peer.rate.text(), "1")]
    rows += [
        (ours.setting, f"{ours.count:,}", ours.rate.text(), ours.times.text(".1f"))
        for ours in peer.against
    ]
    return Table("On one core beside fer", ("Program", "Photos", "Photos a second", "Times"), rows)


def growth_table(growth: Sequence[Growth]) -> Table:
    """Peak memory by the number of photos."""
    rows = [
        (
            f"{one.count:,} {one.photos}",
            _mib(one.peak.greatest if one.peak else None),
            _mib(one.peak.together if one.peak else None),
        )
        for one in growth
    ]
    return Table("Memory with two workers", ("Photos", "Greatest process", "All processes"), rows)


def containment_table(costs: Sequence[Containment]) -> Table:
    """What decoding in other processes adds."""
    columns = ("Photos", "In the run's process", "In its own", "Added to all stages")
    rows = [
        (
            cost.photos,
            f"{cost.inside_ms.text()} ms",
            f"{cost.outside_ms.text()} ms",
            cost.share.text(".1%"),
        )
        for cost in costs
    ]
    return Table("Reading and decoding on one core", columns, rows)


def night_table(nights: Sequence[Night]) -> Table:
    """A second run over files that have not changed."""
    columns = (
        "Files",
        "find",
        "Discover and compare",
        "Ratio",
        "Report",
        "Peak memory, first run",
        "Peak memory, no change",
    )
    rows = [
        (
            f"{night.files:,}",
            f"{night.find.median:.3f} s",
            f"{night.discover.median:.3f} s",
            night.ratio.text(".1f"),
            f"{night.report.median:.2f} s",
            _mib(night.first_peak.together if night.first_peak else None),
            _mib(night.peak.together if night.peak else None),
        )
        for night in nights
    ]
    return Table("A night without changes", columns, rows)


def ray_table(clustered: Sequence[Clustered]) -> Table:
    """The same photos by workers here and by actors on Ray, on the same cores."""
    columns = ("Photos", "Setting", "One photo", "Photos a second", "To local, beyond the start")
    rows = []
    for one in clustered:
        photos = f"{one.count:,} {one.photos}"
        started, ray_started = one.start.text(".2f"), one.ray_start.text(".2f")
        rows += [
            (photos, f"{one.workers} workers", f"{started} s", one.rate.text(), "1.00"),
            (
                photos,
                f"{one.workers} actors on Ray",
                f"{ray_started} s",
                one.ray_rate.text(),
                one.to_local.text(".2f"),
            ),
        ]
    return Table("On Ray beside this machine's workers", columns, rows)


def driver_table(drivers: Sequence[Driver]) -> Table:
    """The run that hands out files to a cluster: its memory and its speed."""
    columns = ("Files", "Memory at the start", "Peak", "Files a second", "Journal")
    rows = [
        (
            f"{one.files:,}",
            _mib(one.before),
            _mib(one.peak),
            f"{one.files / one.seconds:,.0f}",
            _mib(one.journal_bytes / 1024**2),
        )
        for one in drivers
    ]
    return Table("The run itself on a cluster, rows made up", columns, rows)


def _mib(size: float | None) -> str:
    return "not seen" if size is None else f"{size:.0f} MiB"
