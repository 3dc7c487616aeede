"""Runs a scenario with faults, and says which of the project's promises were broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from batch.errors import ExitCode
from batch.files.drafts import MARKER
from tests.conftest import REPOSITORY
from tests.faults.scenarios import BUCKET, Scenario, find_journals
from tests.faults.shim import CHANGES, READS, SENDS, Fault, shim_environment
from tests.support.object_store import s3_environment
from tests.support.runs import RunFolder

ALL_KINDS = (*CHANGES, *READS, *SENDS)
RUN_SECONDS = 120.0  # seconds for one run
# Seconds in which workers must have noticed that their run is dead.
ORPHAN_SECONDS = 10.0
BROKEN = ".broken"
# Where a scenario's command puts temporary files.
TEMPORARY = "tmp"

Bytes = bytes | None
Tree = dict[str, bytes]


@dataclass(frozen=True)
class CommandResult:
    """How a command ended: ``code`` is negative if it was killed, ``calls`` were counted."""

    code: int
    stderr: str
    calls: tuple[str, ...]
    orphans: int

    @property
    def was_killed(self) -> bool:
        """Whether the shim has killed it."""
        return self.code < 0


@dataclass(frozen=True)
class ReportStore:
    """An S3 server, as an object store for reports."""

    endpoint: str
    filesystem: Any
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @classmethod
    def at(cls, endpoint: str) -> ReportStore:
        """Connect to a server."""
        import s3fs

        variables = s3_environment(endpoint)
        return cls(
            endpoint,
            s3fs.S3FileSystem(
                endpoint_url=endpoint,
                key=variables["AWS_ACCESS_KEY_ID"],
                secret=variables["AWS_SECRET_ACCESS_KEY"],
                use_listings_cache=False,
                skip_instance_cache=True,
            ),
        )

    def make_bucket(self) -> str:
        """Make an empty bucket and give its URL."""
        name = f"faults-{os.getpid()}-{next(self._numbers)}"
        self.filesystem.mkdir(name)
        return f"s3://{name}"

    def read(self, url: str) -> Bytes:
        """Give an object's bytes; None if there is none."""
        try:
            data: bytes = self.filesystem.cat_file(url)
        except FileNotFoundError:
            return None
        return data


@dataclass(frozen=True)
class ScenarioFolder:
    """One folder in which a scenario's command runs, and its bucket, if it needs one."""

    scenario: Scenario
    folder: Path
    store: ReportStore | None = None
    bucket: str = ""

    def run(self, *faults: Fault, count_all: bool = False) -> CommandResult:
        """Run the command to its end, with at most one fault."""
        from tests.faults.shim import build_shim

        log = self.folder.with_name(f"{self.folder.name}.calls")
        log.unlink(missing_ok=True)
        variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1",
                     "TMPDIR": str(self.folder / TEMPORARY)}  # fmt: skip
        if self.store:
            variables |= s3_environment(self.store.endpoint)
        if faults or count_all:
            shim = build_shim()
            assert shim is not None
            fault = faults[0] if faults else None
            spared = self.scenario.spared
            variables |= shim_environment(shim, self.folder, log, fault, ALL_KINDS, spared)
        words = [word.replace(BUCKET, self.bucket) for word in self.scenario.command]
        errors = self.folder.with_name(f"{self.folder.name}.stderr")
        with errors.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "batch", *words],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,
            )
            try:
                code = process.wait(RUN_SECONDS)
            finally:
                process.kill()
        orphans = _wait_for_orphans(process.pid)
        calls = log.read_text(errors="replace").splitlines() if log.exists() else []
        return CommandResult(code, errors.read_text(errors="replace"), tuple(calls), orphans)

    def published(self) -> dict[str, Tree | Bytes]:
        """Give what lies under the names of all that is published."""
        found: dict[str, Tree | Bytes] = {}
        for name in self.scenario.published:
            if self.store and name.startswith(BUCKET):
                found[name] = self.store.read(name.replace(BUCKET, self.bucket))
                continue
            path = self.folder / name
            if path.is_dir():
                found[name] = read_tree(path)
            else:
                found[name] = path.read_bytes() if path.exists() else None
        return found

    def files(self) -> set[str]:
        """Name all files and folders that lie in the place, but for photos and the report's.

        Nor are those that a kill may leave for good: a draft's folder before it has its proof, and
        the file by which Python tries out the folder for temporary files.
        """
        skipped = ("photos", *self.scenario.published)
        return {
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.relative_to(self.folder).parts[0] not in skipped
            and not _is_allowed_leftover(self.folder, path)
        }


def _is_allowed_leftover(place: Path, path: Path) -> bool:
    name = path.relative_to(place).as_posix()
    if re.fullmatch("tmp/[a-z0-9_]{8}", name):
        return True
    draft = re.match(r".*\.batch-label-[0-9a-f]{32}\.tmp(?=/|$)", name)
    if draft is None:
        return False
    marker = place / draft.group() / MARKER
    return not marker.exists() or not marker.stat().st_size


def read_tree(folder: Path) -> Tree:
    """Read all files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Baseline:
    """A scenario's place before its command, and what the command makes of it in peace.

    Attributes:
        template: the folder before the command.
        ended: how the command ended.
        before: what was published before.
        after: what the command published.
        files: what lies in the place after it.
        photos: the photos' bytes.
        aside: the bytes of a damaged journal.
    """

    scenario: Scenario
    template: Path
    ended: CommandResult
    before: Mapping[str, Tree | Bytes]
    after: Mapping[str, Tree | Bytes]
    files: set[str]
    photos: Tree
    aside: Mapping[str, bytes]
    store: ReportStore | None = None

    def calls(self, kinds: Sequence[str]) -> int:
        """Count the calls of some kinds."""
        return sum(line.split(" ", 2)[1] in kinds for line in self.ended.calls)

    def copy_template(self, folder: Path) -> ScenarioFolder:
        """Copy the template into a folder that is not there yet."""
        shutil.copytree(self.template, folder, symlinks=True)
        bucket = self.store.make_bucket() if self.store else ""
        return ScenarioFolder(self.scenario, folder.resolve(), self.store, bucket)


def prepare(scenario: Scenario, folder: Path, store: ReportStore | None = None) -> Baseline:
    """Arrange a scenario in a folder, and run its command in a copy, to see what it makes."""
    template = folder / "template"
    template.mkdir(parents=True)
    (template / TEMPORARY).mkdir()
    scenario.arrange(RunFolder(template))
    broken = {f"{path.name}{BROKEN}": path.read_bytes() for path in find_journals(template)}
    start = Baseline(
        scenario=scenario,
        template=template,
        ended=CommandResult(0, "", (), 0),
        before={},
        after={},
        files=set(),
        photos=read_tree(template / "photos"),
        aside=broken if scenario.damaged else {},
        store=store if scenario.needs_store else None,
    )
    spot = start.copy_template(folder / "undisturbed")
    before = spot.published()
    ended = spot.run(count_all=True)
    assert ended.code in (0, 3), ended.stderr
    return Baseline(
        scenario=scenario,
        template=template,
        ended=ended,
        before=before,
        after=spot.published(),
        files=spot.files(),
        photos=start.photos,
        aside=start.aside,
        store=start.store,
    )


@dataclass
class Outcome:
    """What came of a disturbed run: ``hit`` counts its faults, ``broken`` tells of promises."""

    hit: int = 0
    broken: list[str] = field(default_factory=list)


def disturb(undisturbed: Baseline, faults: Sequence[Fault], folder: Path) -> Outcome:
    """Run a scenario in a new folder, once for each fault, and then in peace; check everything."""
    spot, outcome = undisturbed.copy_template(folder), Outcome()
    broken = outcome.broken
    for fault in faults:
        ended = spot.run(fault)
        hit = any(line.endswith(" FAULT") for line in ended.calls)
        outcome.hit += hit
        what = f"with {fault}"
        broken += (f"{what}: {text}" for text in _check_exit(undisturbed, fault, ended))
        broken += (f"{what}: {text}" for text in find_torn(undisturbed, spot))
        says_so = not ended.was_killed and ended.code not in (ExitCode.FAILED, ExitCode.USAGE)
        if says_so and spot.published() != undisturbed.after:
            broken.append(f"{what}: ended with {ended.code}, and the new report is not there")
        broken += (f"{what}: {text}" for text in _find_damage(undisturbed, spot))
    ended = spot.run()
    if ended.code != undisturbed.ended.code:
        broken.append(f"in peace: exit code {ended.code}, not {undisturbed.ended.code}: "
                      f"{ended.stderr[-500:]}")  # fmt: skip
    if "Traceback" in ended.stderr:
        broken.append(f"in peace: a traceback: {ended.stderr[-2000:]}")
    if spot.published() != undisturbed.after:
        broken.append("in peace: another report than that of an undisturbed run")
    if files := spot.files() ^ undisturbed.files:
        broken.append(f"in peace: files that should be there or should not: {sorted(files)}")
    broken += (f"in peace: {text}" for text in _find_damage(undisturbed, spot))
    broken += (f"in peace: {text}" for text in _find_broken_journals(spot))
    return outcome


def _check_exit(undisturbed: Baseline, fault: Fault, ended: CommandResult) -> Iterator[str]:
    """Tell what is wrong with how a command ended."""
    if ended.orphans:
        yield f"{ended.orphans} processes live on"
    if "Traceback" in ended.stderr:
        yield f"a traceback: {ended.stderr[-2000:]}"
    if ended.was_killed:
        if not fault.kills:
            yield f"killed by signal {-ended.code}"
        return
    if ended.code not in undisturbed.scenario.codes:
        yield f"exit code {ended.code}, which is not documented: {ended.stderr[-500:]}"
    if ended.code not in (ExitCode.OK, ExitCode.INCOMPLETE) and not ended.stderr.strip():
        yield f"exit code {ended.code} without a word"


def find_torn(undisturbed: Baseline, spot: ScenarioFolder) -> Iterator[str]:
    """Tell which reports are neither the earlier nor the new one, and which records are cut."""
    for name, now in spot.published().items():
        if now not in (undisturbed.before[name], undisturbed.after[name]):
            state = "missing" if now is None else "torn"
            yield f"{name} is {state}: neither the earlier report nor the new one"
    for record in spot.folder.glob("*.run.json"):
        try:
            json.loads(record.read_bytes())
        except ValueError as error:
            yield f"{record.name} is torn: {error}"


def _find_damage(undisturbed: Baseline, spot: ScenarioFolder) -> Iterator[str]:
    """Tell of changed photos, and of journals that were set aside for an error or lost."""
    if read_tree(spot.folder / "photos") != undisturbed.photos:
        yield "photos were changed"
    aside = {path.name: path.read_bytes() for path in spot.folder.glob(f"*{BROKEN}*")}
    if not undisturbed.scenario.damaged:
        if aside:
            yield f"a sound journal was set aside: {sorted(aside)}"
        return
    for name, data in undisturbed.aside.items():
        journal = spot.folder / name.removesuffix(BROKEN)
        unmoved = journal.exists() and journal.read_bytes() == data
        if data not in aside.values() and not unmoved:
            yield f"the damaged journal {journal.name} is lost"


def _find_broken_journals(spot: ScenarioFolder) -> Iterator[str]:
    """Tell which journals are not sound."""
    for journal in find_journals(spot.folder):
        database = sqlite3.connect(journal)
        try:
            said = database.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.Error as error:
            said = [(str(error),)]
        finally:
            database.close()
        if said != [("ok",)]:
            yield f"the journal {journal.name} is damaged: {said[0][0]}"


def _wait_for_orphans(session: int) -> int:
    """Wait for the processes that a command has left; count those that do not end."""
    give_up = time.monotonic() + ORPHAN_SECONDS
    while (left := _alive_in(session)) and time.monotonic() < give_up:
        time.sleep(0.02)
    return left


def _alive_in(session: int) -> int:
    alive = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:  # it has ended
                continue
            alive += int(of) == session and state not in "ZX"
    return alive
