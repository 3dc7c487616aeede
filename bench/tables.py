"""Tables of results, for a terminal or as the Markdown of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.comparisons import CheckoutComparison, EngineComparison
from bench.driver import DriverRun
from bench.growth import CommandCost, Footprint, Growth
from bench.memory import Peak
from bench.peers import Peer
from bench.results import Results
from bench.speed import Speed
from bench.stages import STAGES
from bench.training import TrainingSpeed
from bench.unchanged import UnchangedRuns
from bench.waits import WaitTimes


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        title: the title.
        columns: the names of the columns.
        rows: the rows, one cell per column.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def aligned(self) -> str:
        """Format the table for a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        cells = (map(str.ljust, line, widths) for line in lines)
        return "\n".join([self.title, *(f"  {'  '.join(line)}".rstrip() for line in cells)])

    def markdown(self) -> str:
        """Format the table as Markdown, with its title as a heading."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join([f"### {self.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])


def format_results(results: Results, markdown: bool) -> str:
    """Format the machine, the versions and all tables."""
    form: Callable[[Table], str] = Table.markdown if markdown else Table.aligned
    return "\n\n".join([describe_setup(results), *map(form, make_tables(results))])


def describe_setup(results: Results) -> str:
    """Describe the machine and the versions of the measurements."""
    machine, versions = results.machine, results.versions
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    memory = f", {machine.memory_gib} GiB" if machine.memory_gib else ""
    return (
        f"{results.date}: {machine.processor}, {machine.cores} cores{memory},\n"
        f"{machine.system};\n{packages}."
    )


def make_tables(results: Results) -> Iterator[Table]:
    """Yield the tables of each part that was measured."""
    if results.speed:
        yield stages_table(results.speed)
        yield speed_table(results.speed)
    if results.waits:
        yield waits_table(results.waits)
    if results.peers:
        yield peers_table(results.peers)
        yield judged_table(results.peers)
    if results.against:
        yield against_table(results.against)
    if results.footprints:
        yield footprint_table(results.footprints)
    if results.unchanged:
        yield unchanged_table(results.unchanged)
    if results.growth:
        yield first_runs_table(results.growth)
        yield intake_table(results.growth)
        yield costs_table(results.growth)
    if results.clustered:
        yield ray_table(results.clustered)
    if results.drivers:
        yield driver_table(results.drivers)
    if results.training:
        yield training_table(results.training)


def stages_table(speeds: Sequence[Speed]) -> Table:
    """Times of each stage on one core, and the number of independent cores."""
    columns = ("Photos", "Size", *STAGES, "Sum", "One core", "Speed-up on all cores")
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
    """Rates of the command, also as shares of the rate of the stages alone."""
    columns = (
        "Photos",
        "Setting",
        "Photos a second",
        "Of the floor",
        "Of what the machine gives",
        "Relative to one worker",
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


def waits_table(waits: WaitTimes) -> Table:
    """Waiting times."""
    named = {
        "--help": waits.help,
        "Models open": waits.models_open,
        "First label": waits.first_label,
        "One photo, report published": waits.one_photo,
    }
    rows = [(name, f"{figure.text('.2f')} s") for name, figure in named.items()]
    return Table("Waits", ("From a process's start to", "Time"), rows)


def peers_table(peers: Sequence[Peer]) -> Table:
    """Speed of all programs on one core."""
    rows = [
        (peer.name, f"{peer.photos:,}", peer.rate.text(), peer.times.text(".1f")) for peer in peers
    ]
    columns = ("Program", "Photos", "Photos a second", "Relative to the first")
    return Table("On one core beside other programs: speed", columns, rows)


def judged_table(peers: Sequence[Peer]) -> Table:
    """Accuracy of all programs."""
    columns = ("Program", "Labelled photos", "Answered", "Right of these", "Wrongly answered")
    rows = [
        (
            peer.name,
            f"{judged.photos:,} of {name}",
            _percent(judged.answered),
            _percent(judged.right),
            _percent(judged.wrongly),
        )
        for peer in peers
        for name, judged in peer.judged.items()
    ]
    return Table("On one core beside other programs: answers", columns, rows)


def against_table(against: Sequence[CheckoutComparison]) -> Table:
    """Speed of this checkout and of another one."""
    columns = ("Photos", "Other checkout", "Photos a second, other", "Photos a second", "Times")
    rows = [
        (
            f"{one.count:,} {one.photos}",
            one.other,
            one.other_rate.text(),
            one.rate.text(),
            one.times.text(".2f"),
        )
        for one in against
    ]
    return Table("One core against another checkout", columns, rows)


def footprint_table(footprints: Sequence[Footprint]) -> Table:
    """Peak memory by the number of photos."""
    rows = [
        (f"{one.count:,} {one.photos}", _greatest(one.peak), _together(one.peak))
        for one in footprints
    ]
    return Table("Memory with two workers", ("Photos", "Largest process", "All processes"), rows)


def unchanged_table(runs: Sequence[UnchangedRuns]) -> Table:
    """Times of a run without changes."""
    columns = (
        "Files",
        "find",
        "batch-label",
        "Ratio",
        "Start-up",
        "Discover and compare",
        "Report",
        "Peak memory",
    )
    rows = [
        (
            f"{run.files:,}",
            f"{run.find.median:.3f} s",
            f"{run.whole.text('.2f')} s",
            run.ratio.text(".1f"),
            f"{run.start.median:.2f} s",
            f"{run.discover.median:.2f} s",
            f"{run.report.median:.2f} s",
            _together(run.peak),
        )
        for run in runs
    ]
    return Table("A run without changes, whole processes", columns, rows)


def first_runs_table(growth: Growth) -> Table:
    """First runs over real photos."""
    columns = ("Photos", "Photos a second, once started", "Relative to the smallest")
    rows = [
        (f"{run.count:,}", run.rate.text(), run.to_smallest.text(".2f"))
        for run in growth.first_runs
    ]
    return Table("First runs by size", columns, rows)


def intake_table(growth: Growth) -> Table:
    """Rates of the main process with simulated workers."""
    columns = (
        "Files",
        "Simulated workers",
        "Rows a second",
        "Processor time per photo",
        "Peak memory of its process",
    )
    rows = [
        (
            f"{one.files:,}",
            str(one.workers),
            f"{one.rate:,.0f}",
            f"{one.spent_ms:.3f} ms",
            _mib(one.peak),
        )
        for one in growth.intakes
    ]
    return Table("The run itself, simulated workers", columns, rows)


def costs_table(growth: Growth) -> Table:
    """Time and memory of each command by size; its last row has the exponent."""
    columns = (
        "Command",
        "Files",
        "Seconds",
        "Peak memory of its process",
        "Exponent",
    )
    by_name: dict[str, list[CommandCost]] = {}
    for cost in growth.costs:
        by_name.setdefault(cost.what, []).append(cost)
    rows = []
    for name, costs in by_name.items():
        for cost in costs:
            fitted = growth.exponents.get(name) if cost is costs[-1] else None
            rows.append(
                (
                    name,
                    f"{cost.files:,}",
                    f"{cost.seconds:.2f}",
                    _mib(cost.peak),
                    "" if fitted is None else f"{fitted:.2f}",
                )
            )
    return Table("Cost by size", columns, rows)


def ray_table(clustered: Sequence[EngineComparison]) -> Table:
    """Times of the local engine and of Ray, on the same cores."""
    columns = ("Photos", "Setting", "One photo", "All photos")
    rows = []
    for one in clustered:
        photos = f"{one.count:,} {one.photos}"
        for setting, start, seconds in (
            (f"{one.workers} workers", one.start, one.seconds),
            (f"{one.workers} actors on Ray", one.ray_start, one.ray_seconds),
        ):
            rows.append((photos, setting, f"{start.text('.2f')} s", f"{seconds.text('.1f')} s"))
    return Table("On Ray beside this machine's workers", columns, rows)


def driver_table(drivers: Sequence[DriverRun]) -> Table:
    """Memory and speed of the main process of a run on Ray."""
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
    return Table("The run itself on a cluster, simulated rows", columns, rows)


def training_table(training: Sequence[TrainingSpeed]) -> Table:
    """Speed of the trainer and of a minimal script."""
    columns = ("Program", "Photos", "First epoch, with start", "Photos a second", "Relative")
    rows = [
        (
            one.name,
            f"{one.photos:,}",
            f"{one.start.text('.1f')} s",
            one.rate.text(),
            one.times.text(".2f"),
        )
        for one in training
    ]
    return Table("Training of whole photos", columns, rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _greatest(peak: Peak | None) -> str:
    return _mib(peak.greatest if peak else None)


def _together(peak: Peak | None) -> str:
    return _mib(peak.together if peak else None)


def _mib(size: float | None) -> str:
    return "not seen" if size is None else f"{size:.0f} MiB"
