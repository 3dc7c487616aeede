from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batch.errors import ExitCode, LockedError, OutputError
from batch.files.lock import hold_lock

HOLD = """
import sys
from batch.files.lock import hold_lock
with hold_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def _hold(output: Path, repository: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path, repository: Path) -> None:
    output = tmp_path / "results.csv"
    with _hold(output, repository) as first:
        with pytest.raises(LockedError, match=r"results\.csv") as caught, hold_lock(str(output)):
            pass
        assert caught.value.exit_code is ExitCode.LOCKED
        first.communicate()
    with hold_lock(str(output)):
        pass


def test_the_lock_ends_with_a_killed_process(tmp_path: Path, repository: Path) -> None:
    output = tmp_path / "results.csv"
    with _hold(output, repository) as first:
        first.send_signal(signal.SIGKILL)
    with hold_lock(str(output)):
        pass


def test_other_reports_are_not_locked(tmp_path: Path) -> None:
    with hold_lock(str(tmp_path / "a.csv")), hold_lock(str(tmp_path / "b.csv")):
        pass


def test_a_link_to_a_report_has_the_report_s_lock(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    link, real = str(tmp_path / "link.csv"), str(tmp_path / "real.csv")
    with hold_lock(link), pytest.raises(LockedError), hold_lock(real):
        pass


def test_nothing_stays_behind(tmp_path: Path) -> None:
    with hold_lock(str(tmp_path / "results.csv")):
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_file_with_content_in_place_of_a_lock_is_locked_and_stays(tmp_path: Path) -> None:
    (tmp_path / ".results.csv.lock").write_text("mine")
    output = str(tmp_path / "results.csv")
    with hold_lock(output), pytest.raises(LockedError), hold_lock(output):
        pass
    assert (tmp_path / ".results.csv.lock").read_text() == "mine"


def test_a_link_in_place_of_a_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".results.csv.lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(OutputError, match="symbolic links"),
        hold_lock(str(tmp_path / "results.csv")),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".results.csv.lock"]


def test_a_file_that_replaced_the_lock_stays(tmp_path: Path) -> None:
    with hold_lock(str(tmp_path / "results.csv")):
        (lock,) = tmp_path.iterdir()
        lock.unlink()
        lock.touch()
    assert [path.name for path in tmp_path.iterdir()] == [lock.name]


def test_a_file_system_without_locks_is_not_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(OutputError, match="No locks available"),
        hold_lock(str(tmp_path / "results.csv")),
    ):
        pass


@pytest.mark.parametrize("stream", ["-", "/dev/null"])
def test_streams_need_no_lock(stream: str) -> None:
    with hold_lock(stream), hold_lock(stream):
        pass


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="nowhere"),
        hold_lock(str(tmp_path / "nowhere" / "r.csv")),
    ):
        pass
