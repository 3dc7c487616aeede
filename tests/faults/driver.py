"""Runs scenarios with injected faults, and lists the promises that were broken."""

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
from tests.faults.shim import CHANGES, READS, SENDS, Fault, build_shim, shim_environment
from tests.support.object_store import s3_environment
from tests.support.runs import RunFolder

ALL_KINDS = (*CHANGES, *READS, *SENDS)
RUN_SECONDS = 120.0  # for one run
ORPHAN_SECONDS = 10.0  # within which workers must notice that their run is dead
BROKEN = ".broken"
TEMPORARY = "tmp"  # folder for temporary files of the command

Bytes = bytes | None
Tree = dict[str, bytes]


@dataclass(frozen=True)
class CommandResult:
    """A finished command.

    Attributes:
        code: the exit code; negative if it was killed.
        stderr: the standard error.
        calls: lines of the shim's log, one per counted call.
        orphans: processes of the command that did not end.
    """

    code: int
    stderr: str
    calls: tuple[str, ...]
    orphans: int

    @property
    def was_killed(self) -> bool:
        """Whether the shim killed the command."""
        return self.code < 0


@dataclass(frozen=True)
class ReportStore:
    """An S3 server, as an object store for reports."""

    endpoint: str
    filesystem: Any
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @classmethod
    def connect(cls, endpoint: str) -> ReportStore:
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
        """Make an empty bucket and return its URL."""
        name = f"faults-{os.getpid()}-{next(self._numbers)}"
        self.filesystem.mkdir(name)
        return f"s3://{name}"

    def read(self, url: str) -> Bytes:
        """Return the bytes of an object; None if it does not exist."""
        try:
            data: bytes = self.filesystem.cat_file(url)
        except FileNotFoundError:
            return None
        return data


@dataclass(frozen=True)
class ScenarioFolder:
    """A folder in which the command of a scenario runs, and its bucket if it needs one."""

    scenario: Scenario
    folder: Path
    store: ReportStore | None = None
    bucket: str = ""

    def run(self, *faults: Fault, count_all: bool = False) -> CommandResult:
        """Run the command to its end, with at most one fault."""
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
        """Read all published files, datasets and objects, by name."""
        found: dict[str, Tree | Bytes] = {}
        for name in self.scenario.published:
            if self.store and name.startswith(BUCKET):
                found[name] = self.store.read(name.replace(BUCKET, self.bucket))
                continue
            path = self.folder / name
            if path.is_dir():
                found[name] = read_tree(path)
            else:
                normalize = self.scenario.normalize
                found[name] = normalize(path.read_bytes()) if path.exists() else None
        return found

    def files(self) -> set[str]:
        """List all files and folders other than photos, reports, and allowed leftovers.

        A kill may leave two things for good: the folder of a draft without a filled-in marker,
        and the file with which Python probes the folder for temporary files.
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
    """A scenario and the results of its command without faults.

    Attributes:
        scenario: the scenario.
        template: the folder before the command.
        ended: the finished command.
        before: what was published before the command.
        after: what the command published.
        files: the files in the folder after the command.
        photos: the bytes of the photos.
        aside: the bytes of damaged journals, by the name that they get when set aside.
        store: the object store; None if the scenario needs none.
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
        """Count the calls of some kinds in the run without faults."""
        return sum(line.split(" ", 2)[1] in kinds for line in self.ended.calls)

    def copy_template(self, folder: Path) -> ScenarioFolder:
        """Copy the template to a new folder, with a new bucket."""
        shutil.copytree(self.template, folder, symlinks=True)
        bucket = self.store.make_bucket() if self.store else ""
        return ScenarioFolder(self.scenario, folder.resolve(), self.store, bucket)


def prepare(scenario: Scenario, folder: Path, store: ReportStore | None = None) -> Baseline:
    """Prepare a scenario in a folder, and run its command without faults in a copy."""
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
    place = start.copy_template(folder / "baseline")
    before = place.published()
    ended = place.run(count_all=True)
    assert ended.code in (0, 3), ended.stderr
    return Baseline(
        scenario=scenario,
        template=template,
        ended=ended,
        before=before,
        after=place.published(),
        files=place.files(),
        photos=start.photos,
        aside=start.aside,
        store=start.store,
    )


@dataclass
class Outcome:
    """Results of a scenario with faults.

    Attributes:
        hit: the number of faults that were injected.
        broken: descriptions of broken promises.
    """

    hit: int = 0
    broken: list[str] = field(default_factory=list)


def inject_faults(baseline: Baseline, faults: Sequence[Fault], folder: Path) -> Outcome:
    """Run a scenario once per fault, then once without faults; check all promises each time."""
    place, outcome = baseline.copy_template(folder), Outcome()
    broken = outcome.broken
    for fault in faults:
        ended = place.run(fault)
        hit = any(line.endswith(" FAULT") for line in ended.calls)
        outcome.hit += hit
        what = f"with {fault}"
        broken += (f"{what}: {text}" for text in _check_exit(baseline, fault, ended))
        broken += (f"{what}: {text}" for text in find_torn(baseline, place))
        says_so = not ended.was_killed and ended.code not in (ExitCode.FAILED, ExitCode.USAGE)
        if says_so and place.published() != baseline.after:
            broken.append(f"{what}: ended with {ended.code}, but the new report is missing")
        broken += (f"{what}: {text}" for text in _find_damage(baseline, place))
    ended = place.run()
    if ended.code != baseline.ended.code:
        broken.append(f"without faults: exit code {ended.code}, not {baseline.ended.code}: "
                      f"{ended.stderr[-500:]}")  # fmt: skip
    if "Traceback" in ended.stderr:
        broken.append(f"without faults: a traceback: {ended.stderr[-2000:]}")
    if place.published() != baseline.after:
        broken.append("without faults: another report than before")
    if files := place.files() ^ baseline.files:
        broken.append(f"without faults: missing or extra files: {sorted(files)}")
    broken += (f"without faults: {text}" for text in _find_damage(baseline, place))
    broken += (f"without faults: {text}" for text in _find_broken_journals(place))
    return outcome


def _check_exit(baseline: Baseline, fault: Fault, ended: CommandResult) -> Iterator[str]:
    """Check the exit code, messages and processes of a command."""
    if ended.orphans:
        yield f"{ended.orphans} processes did not end"
    if "Traceback" in ended.stderr:
        yield f"a traceback: {ended.stderr[-2000:]}"
    if ended.was_killed:
        if not fault.kills:
            yield f"killed by signal {-ended.code}"
        return
    if ended.code not in baseline.scenario.codes:
        yield f"exit code {ended.code}, which is not documented: {ended.stderr[-500:]}"
    if ended.code not in (ExitCode.OK, ExitCode.INCOMPLETE) and not ended.stderr.strip():
        yield f"exit code {ended.code} without a message"


def find_torn(baseline: Baseline, place: ScenarioFolder) -> Iterator[str]:
    """Find reports that are neither the earlier nor the new one, and truncated run records."""
    for name, now in place.published().items():
        if now not in (baseline.before[name], baseline.after[name]):
            state = "missing" if now is None else "torn"
            yield f"{name} is {state}: neither the earlier report nor the new one"
    for record in place.folder.glob("*.run.json"):
        try:
            json.loads(record.read_bytes())
        except ValueError as error:
            yield f"{record.name} is torn: {error}"


def _find_damage(baseline: Baseline, place: ScenarioFolder) -> Iterator[str]:
    """Find changed photos, sound journals that were set aside, and lost damaged journals."""
    if read_tree(place.folder / "photos") != baseline.photos:
        yield "photos were changed"
    aside = {path.name: path.read_bytes() for path in place.folder.glob(f"*{BROKEN}*")}
    if not baseline.scenario.damaged:
        if aside:
            yield f"a sound journal was set aside: {sorted(aside)}"
        return
    for name, data in baseline.aside.items():
        journal = place.folder / name.removesuffix(BROKEN)
        unmoved = journal.exists() and journal.read_bytes() == data
        if data not in aside.values() and not unmoved:
            yield f"the damaged journal {journal.name} is lost"


def _find_broken_journals(place: ScenarioFolder) -> Iterator[str]:
    """Find damaged journals."""
    for journal in find_journals(place.folder):
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
    """Wait for the remaining processes of a session; count those that do not end."""
    give_up = time.monotonic() + ORPHAN_SECONDS
    while (left := _count_alive(session)) and time.monotonic() < give_up:
        time.sleep(0.02)
    return left


def _count_alive(session: int) -> int:
    alive = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:  # the process has ended
                continue
            alive += int(of) == session and state not in "ZX"
    return alive
