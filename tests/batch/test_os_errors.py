"""Errors on files that root left name the owner, the mode and the remedy."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch.errors import BatchLabelError, OutputError, UsageError
from batch.exclude import read_patterns
from batch.files.lock import hold_lock, lock_path
from batch.files.publish import Draft
from batch.journal.journal import Journal
from batch.models.shipped import SearchPath, list_own_models
from batch.os_errors import classify_read_error, describe_os_error, translate_write_errors
from batch.reading.saved import open_saved_report
from batch.recording.metrics import metrics_file
from batch.recording.run_record import local_record_file
from batch.records import Reason
from batch.reports.dataset_folder import check_local_dataset
from batch.reports.output import check_destination
from batch.reports.report import check_output
from tests.support.discovery import NOBODY, find, without_privileges

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files of another's")
ROOT_S = r"permission denied \({}owner root \(uid 0\), mode {}\)"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of another user that the test can switch to; pytest's folders are not readable."""
    folder = Path(tempfile.mkdtemp()).resolve()
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def _own(path: Path, mode: int, content: bytes = b"x") -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _journal(path: Path) -> Path:
    with Journal(path, b"basis"):
        pass
    return path


def _refused(folder: Path, act: Callable[[], object], pattern: str) -> BatchLabelError:
    with without_privileges(folder), pytest.raises(BatchLabelError, match=pattern) as caught:
        act()
    return caught.value


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_journal(folder: Path, mode: int) -> None:
    journal = _journal(folder / ".r.csv.journal")
    journal.chmod(mode)
    error = _refused(folder, lambda: Journal(journal, b"basis"), ROOT_S.format("", f"{mode:o}"))
    assert str(error).startswith(f"journal {journal}: permission denied")
    assert "chown" in str(error)
    assert "--state" in str(error)


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_a_file_beside_a_journal(folder: Path, suffix: str) -> None:
    journal = _journal(folder / ".r.csv.journal")
    os.chown(journal, NOBODY, NOBODY)
    beside = _own(
        folder / f".r.csv.journal{suffix}", 0o600, b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" * 64
    )
    _refused(folder, lambda: Journal(journal, b"basis"), f"{beside}, owner root")


def test_a_journal_in_a_folder_of_another_user_s(folder: Path) -> None:
    os.chown(folder, 0, 0)
    journal = folder / ".r.csv.journal"
    pattern = ROOT_S.format(f"folder {folder}, ", "755")
    _refused(folder, lambda: Journal(journal, b"basis"), pattern)


def test_a_lock_that_may_not_be_read(folder: Path) -> None:
    lock = _own(lock_path(folder / "r.csv"), 0o600, b"")

    def hold() -> None:
        with hold_lock(str(folder / "r.csv")):
            pass

    _refused(folder, hold, ROOT_S.format(f"file {lock}, ", "600"))
    lock.chmod(0o644)
    with without_privileges(folder):
        hold()  # what a killed run of root's has left holds nobody up
    assert not lock.exists()


def test_a_lock_that_another_user_holds_is_another_run(folder: Path) -> None:
    report = str(folder / "r.csv")

    def hold() -> None:
        with hold_lock(report):
            pass

    with hold_lock(report):
        _refused(folder, hold, "another run")


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: check_destination(str(folder / "r.csv")),
        lambda folder: check_output(str(folder / "r.csv")),
        lambda folder: check_local_dataset(folder / "r"),
        lambda folder: local_record_file(folder / "r.csv").write(b"{}"),
        lambda folder: metrics_file(folder / "r.prom").check(),
        lambda folder: metrics_file(folder / "r.prom").write(b"#"),
    ],
)
def test_a_folder_of_another_user_s(folder: Path, act: Callable[[Path], object]) -> None:
    os.chown(folder, 0, 0)
    _refused(folder, lambda: act(folder), ROOT_S.format(f"folder {folder}, ", "755"))


def test_files_of_another_user_in_an_own_folder_are_replaced(folder: Path) -> None:
    _own(folder / "r.csv.run.json", 0o600)
    _own(folder / "r.csv", 0o600)
    with without_privileges(folder):
        local_record_file(folder / "r.csv").write(b"{}")
        draft = Draft(folder / "r.csv")
        draft.publish()
    assert (folder / "r.csv").stat().st_uid == NOBODY


def test_a_file_in_a_folder_where_only_owners_replace_them(folder: Path) -> None:
    record = _own(folder / "r.csv.run.json", 0o644)
    os.chown(folder, 0, 0)
    folder.chmod(0o1777)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(OutputError, match=ROOT_S.format("", "644")):
            local_record_file(folder / "r.csv").write(b"{}")
    finally:
        os.seteuid(0)
    assert record.read_bytes() == b"x"


def test_a_dataset_of_another_user_s(folder: Path) -> None:
    dataset = folder / "r"
    dataset.mkdir(mode=0o700)
    _own(dataset / "_SUCCESS", 0o600)
    _refused(
        folder, lambda: check_local_dataset(dataset), ROOT_S.format(f"folder {dataset}, ", "700")
    )


def test_reports_and_patterns_that_are_read(folder: Path) -> None:
    report = _own(folder / "r.csv", 0o600)

    def read() -> None:
        with open_saved_report(str(report)):
            pass

    _refused(folder, read, ROOT_S.format(f"file {report}, ", "600"))
    _refused(folder, lambda: read_patterns(str(report)), ROOT_S.format("", "600"))


def test_photos_and_folders_of_photos(folder: Path) -> None:
    _own(folder / "photo", 0o600)
    (folder / "locked").mkdir(mode=0o700)
    with without_privileges(folder):
        assert find(str(folder)) == [f"{folder}/locked!unreadable", f"{folder}/photo!unreadable"]
    _refused(
        folder,
        lambda: find(f"{folder}/locked/x"),
        ROOT_S.format(f"folder {folder}/locked, ", "700"),
    )
    pattern = f"{folder}/locked/*"
    with without_privileges(folder):
        assert find(pattern) == [f"{folder}/locked!unreadable"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space there or use -o, then run again"),
        (errno.EDQUOT, "free some of your quota there or use -o, then run again"),
        (errno.ENOENT, "create its folder first or use -o"),
        (errno.EROFS, "use -o"),
    ],
)
def test_a_write_error_has_its_remedy(number: int, remedy: str) -> None:
    with pytest.raises(OutputError) as caught, translate_write_errors("report r.csv", "use -o"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"report r.csv can't be written ({os.strerror(number)}); {remedy}"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(), Reason.VANISHED),
        (NotADirectoryError(), Reason.VANISHED),
        (PermissionError(), Reason.UNREADABLE),
        (None, Reason.UNREADABLE),
    ],
)
def test_a_missing_file_has_vanished(error: BaseException | None, reason: Reason) -> None:
    assert classify_read_error(error) is reason


def test_other_errors_keep_the_system_s_words() -> None:
    assert describe_os_error(FileNotFoundError(2, "No such file or directory", "x")) == (
        "No such file or directory"
    )
    assert describe_os_error(PermissionError(13, "Permission denied")) == "permission denied"


def test_a_closed_home_has_no_models(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    with without_privileges(folder):
        assert list_own_models(SearchPath(default=home / "models")) == {}
        assert list_own_models(SearchPath(default=home)) == {}
        with pytest.raises(UsageError, match="permission denied"):
            list_own_models(SearchPath((home,)))
