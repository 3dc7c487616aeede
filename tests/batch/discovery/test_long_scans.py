"""Long scans stop as soon as the run is stopped, and bad links do not end a scan."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from batch.discovery.discover import Discovery
from batch.discovery.walk import CHECK_EVERY, FolderWalker
from batch.errors import ExitCode
from batch.options import Search
from batch.records import Reason
from tests.support.discovery import find, without_privileges
from tests.support.runs import REPORT, RunFolder, wait_for, wait_for_end

MANY = 60_000
OFTEN = 10  # calls of a check before it ends the scan


class Stopped(Exception):
    pass


class Check:
    """Ends a scan at the n-th call, and records the longest time between calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.most = 0.0
        self._last = time.perf_counter()

    def __call__(self) -> None:
        now = time.perf_counter()
        self.most, self._last = max(self.most, now - self._last), now
        self.calls -= 1
        if self.calls == 0:
            raise Stopped


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of many hard links to one file, which is fast."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    folder.mkdir()
    first = folder / "first.jpg"
    first.touch()
    for number in range(MANY):
        name = folder / f"{number}.jpg"
        try:
            os.link(first, name)
        except OSError:  # one file has only so many names
            first = name
            first.touch()
    return folder


def test_a_scan_of_a_huge_folder_can_be_stopped_at_any_step(many: Path) -> None:
    check = Check(0)
    explorer = FolderWalker(Search(), lambda path, why: None, None, check)
    assert sum(1 for _ in explorer.walk([os.fspath(many)])) == MANY + 1
    assert -check.calls > 2 * (MANY // CHECK_EVERY)
    assert check.most < 1
    with pytest.raises(Stopped):
        list(Discovery([os.fspath(many)], Search(), check=Check(OFTEN)))


@pytest.mark.parametrize("pattern", ["*", "**/*.jpg"])
def test_the_matching_of_a_pattern_can_be_stopped(many: Path, pattern: str) -> None:
    check = Check(0)
    Discovery([f"{many}/{pattern}"], Search(), check=check)
    assert -check.calls > MANY // CHECK_EVERY
    assert check.most < 1


def test_a_signal_ends_a_scan_at_once(many: Path, tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    for number in range(20):  # so that it takes some seconds
        (tmp_path / "photos" / str(number)).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / str(number)).symlink_to(many)
    inputs = [str(path) + "/*" for path in sorted((tmp_path / "photos").iterdir())]
    process = place.start_command("manifest", *inputs, "-o", "m.parquet")
    wait_for(lambda: b"SigCgt" in Path(f"/proc/{process.pid}/status").read_bytes(), process)
    wait_for(lambda: _catches(process.pid, signal.SIGTERM), process)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.TERMINATED, ran.stderr
    assert time.monotonic() - sent < 1.5
    assert not (tmp_path / "m.parquet").exists()


def _catches(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")]
    return bool(mask >> (number - 1) & 1)


def test_a_link_that_the_system_does_not_follow_is_one_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("a.jpg", "z.jpg"):
        Path("photos", name).write_bytes(b"\xff\xd8\xff")
    Path("photos/x.jpg").symlink_to("/proc/1/cwd")
    expected = ["photos/a.jpg", f"photos/x.jpg!{Reason.UNREADABLE}", "photos/z.jpg"]
    with without_privileges(tmp_path):
        assert find("photos", search=Search(follow_symlinks=True)) == expected
        assert find("-", listing="\n".join(p.partition("!")[0] for p in expected).encode()) == (
            expected
        )


def test_a_line_of_a_list_that_is_too_long_is_one_failure(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    (tmp_path / "list").write_bytes(b"n" * 1_100_000 + b".jpg\n" + b"gone.jpg\n")
    ran = place.run("-", "-o", REPORT, before=("sh", "-c", 'exec "$@" < list', "sh"))
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    errors = [row["error"].partition(":")[0] for row in place.rows().values()]
    assert errors == [Reason.UNREADABLE, Reason.VANISHED]
    assert place.command("diff", REPORT, REPORT).returncode == 0
