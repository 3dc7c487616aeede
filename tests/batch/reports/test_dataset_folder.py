"""A local dataset is published in one step, and no other file is replaced or removed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.files.drafts import CONTENT, DraftFolder
from batch.reports import dataset_folder
from batch.reports.dataset import SUCCESS_FILE
from batch.reports.dataset_folder import LocalDataset
from batch.reports.report import check_output, open_report
from tests.conftest import REPOSITORY
from tests.support.datasets import files, fill, listed, read, rows, write
from tests.support.runs import find_drafts

# A publication that stops where it is told to, as if it were killed there.
CUT_OFF = """
import os, sys
from pathlib import Path
from batch.reports import dataset_folder
from batch.reports.dataset_folder import LocalDataset
from tests.support.datasets import fill
dataset_folder.exchange = lambda one, other: False
rename, left, target = Path.rename, int(sys.argv[2]), Path(sys.argv[1])
clear = dataset_folder._clear
def cut_off(function, *args):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return function(*args)
dataset_folder._clear = lambda draft: cut_off(clear, draft)
Path.rename = lambda one, other: cut_off(rename, one, other) if target in (one, other) \\
    else rename(one, other)
fill(LocalDataset(target), 20).publish()
"""


def test_it_replaces_an_earlier_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    (tmp_path / "results").chmod(0o750)
    write(tmp_path / "results", 20)
    assert len(read(tmp_path / "results")) == 20
    assert set(files(tmp_path / "results")) == listed(tmp_path / "results") | {SUCCESS_FILE}
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_leaves_an_earlier_one_s_owner(tmp_path: Path) -> None:
    dataset = tmp_path / "results"
    write(dataset, 100)
    os.chown(dataset, 12345, 12346)
    write(dataset, 20)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (dataset, *dataset.iterdir())}
    assert owners == {(12345, 12346)}


def test_one_that_is_discarded_leaves_no_trace(tmp_path: Path) -> None:
    with open_report(f"{tmp_path}/results/", ("happy", "sad"), False, io.BytesIO()) as report:
        report.add(next(rows(1)))
        assert not (tmp_path / "results").exists()
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_and_a_link_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "there")
    write(tmp_path / "results", 20)
    assert (tmp_path / "results").is_symlink()
    assert len(read(tmp_path / "there")) == 20


def spoil_with_a_note(folder: Path) -> None:
    write(folder, 20)
    (folder / "notes.txt").write_text("mine")


def spoil_without_a_list(folder: Path) -> None:
    write(folder, 20)
    (folder / SUCCESS_FILE).unlink()


def spoil_with_another_s_list(folder: Path) -> None:
    write(folder, 20)
    (folder / SUCCESS_FILE).write_bytes(b"")  # as Spark leaves it


def photos_of_mine(folder: Path) -> None:
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"mine")


def a_link_in_it(folder: Path) -> None:
    write(folder, 20)
    (folder / "link").symlink_to("/tmp")


def an_empty_folder_in_it(folder: Path) -> None:
    write(folder, 20)
    (folder / "for later").mkdir()


def an_empty_folder_alone(folder: Path) -> None:
    (folder / "for later").mkdir(parents=True)


def a_folder_of_its_kind(folder: Path) -> None:
    write(folder, 20)
    (part,) = folder.glob("part-*")
    part.unlink()
    part.mkdir()


def a_file_of_its_kind(folder: Path) -> None:
    write(folder, 20)
    (folder / "part-00007-0123456789ab.parquet").touch()


def a_link_of_its_kind(folder: Path) -> None:
    write(folder, 20)
    (part,) = folder.glob("part-*")
    mine = folder.with_name("mine.parquet")
    part.rename(mine)
    part.symlink_to(mine)


def a_list_without_end(folder: Path) -> None:
    write(folder, 20)
    os.truncate(folder / SUCCESS_FILE, 1 << 40)


def a_pipe_as_its_list(folder: Path) -> None:
    write(folder, 20)
    (folder / SUCCESS_FILE).unlink()
    os.mkfifo(folder / SUCCESS_FILE)


@pytest.mark.parametrize(
    "spoil",
    [spoil_with_a_note, spoil_without_a_list, spoil_with_another_s_list, photos_of_mine,
     a_link_in_it, an_empty_folder_in_it, an_empty_folder_alone, a_folder_of_its_kind,
     a_file_of_its_kind, a_link_of_its_kind, a_list_without_end, a_pipe_as_its_list],
)  # fmt: skip
def test_a_folder_that_is_not_a_dataset_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "results")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=r"is not part of a dataset .*; name another folder"):
        check_output(f"{tmp_path}/results/")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_appears_there_during_the_run_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "results", 20)
    with open_report(f"{tmp_path}/results/", ("happy", "sad"), False, io.BytesIO()) as report:
        (tmp_path / "results" / "notes.txt").write_text("mine")
        before = files(tmp_path / "results")
        with pytest.raises(OutputError, match=r"notes\.txt"):
            report.publish()
    assert files(tmp_path / "results") == before
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_file_in_its_place_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        check_output(f"{tmp_path}/results/")
    with pytest.raises(OutputError, match=r"no folder .*create its folder first"):
        check_output(f"{tmp_path}/none/results/")


def test_a_mount_point_is_refused() -> None:
    with pytest.raises(OutputError, match="/proc"):
        check_output("/proc/")


@pytest.mark.parametrize("steps", range(4))
def test_the_next_run_completes_an_interrupted_swap(tmp_path: Path, steps: int) -> None:
    write(tmp_path / "results", 100)
    before = files(tmp_path / "results")
    ran = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(tmp_path / "results"), str(steps)],
        cwd=REPOSITORY,
        capture_output=True,
    )
    assert ran.returncode == (9 if steps < 3 else 0), ran.stderr
    check_output(f"{tmp_path}/results/")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert (files(tmp_path / "results") == before) is (steps < 2)
    assert len(read(tmp_path / "results")) == (100 if steps < 2 else 20)


def test_a_draft_in_the_making_is_left_alone_while_its_run_lives(tmp_path: Path) -> None:
    other = fill(LocalDataset(tmp_path / "results"), 100)
    write(tmp_path / "results", 20)
    assert len(list(tmp_path.iterdir())) == 2
    other.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert len(read(tmp_path / "results")) == 100


def test_a_file_that_appears_there_during_the_replacement_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "results", 100)
    swap = dataset_folder._swap

    def late(draft: DraftFolder, target: Path) -> None:
        (target / "notes.txt").write_text("mine")
        (target / "for later").mkdir()
        swap(draft, target)

    monkeypatch.setattr(dataset_folder, "_swap", late)
    write(tmp_path / "results", 20)
    monkeypatch.undo()
    for _ in range(2):
        write(tmp_path / "results", 20)
        (draft,) = find_drafts(tmp_path, "results")
        assert files(draft / CONTENT) == {"notes.txt": b"mine"}
        assert (draft / CONTENT / "for later").is_dir()
    assert len(read(tmp_path / "results")) == 20


def test_a_dataset_of_a_name_that_begins_alike_is_not_put_in_this_one_s_place(
    tmp_path: Path,
) -> None:
    one, other = (tmp_path / ("a" * 60 + letter) for letter in "bc")
    write(one, 100)
    ran = subprocess.run([sys.executable, "-c", CUT_OFF, str(one), "1"], cwd=REPOSITORY)
    assert ran.returncode == 9
    assert not one.exists()
    check_output(f"{other}/")
    assert not other.exists()


def test_a_run_that_is_killed_leaves_the_earlier_dataset(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    before = files(tmp_path / "results")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from tests.support.datasets import fill\n"
        "from batch.reports.dataset_folder import LocalDataset\n"
        "fill(LocalDataset(Path(sys.argv[1])), 20)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "results")], cwd=REPOSITORY)
    assert killed.returncode == -signal.SIGKILL
    assert files(tmp_path / "results") == before
    assert len(list(tmp_path.iterdir())) == 2
    check_output(f"{tmp_path}/results/")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
