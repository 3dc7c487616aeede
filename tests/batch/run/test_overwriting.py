"""No photo or input is overwritten by mistake, and one process at a time writes a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from batch.errors import ExitCode
from batch.files.lock import hold_lock
from tests.support.runs import REPORT, RunFolder, make_photos

PHOTO = "photos/00000.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A folder with photos, a report and a manifest of them."""
    place = RunFolder(tmp_path_factory.mktemp("overwriting"))
    make_photos(place.folder / "photos", 3)
    for name in ("odd.csv", "odd.parquet", "odd.prom", "odd.html"):
        (place.folder / "photos" / name).write_bytes((place.folder / PHOTO).read_bytes())
    Image.new("RGB", (90, 90), "orange").save(place.folder / "photos" / "mine.png")
    place.label()
    assert place.command("manifest", "photos", "-o", "m.parquet").returncode == ExitCode.OK
    (place.folder / "link.html").symlink_to(REPORT)
    (place.folder / "link.csv").symlink_to("m.parquet")
    return place


def state_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LABEL = ("label", "-m", "bright.onnx", "--provider", "cpu")
EXPLAIN = ("explain", PHOTO, "-m", "bright.onnx", "--provider", "cpu", "-o")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((*LABEL, "photos", "-o", "photos/odd.csv"), "odd.csv is a picture"),
        ((*LABEL, "photos", "-o", "x.csv", "--metrics-file", PHOTO), "is a picture"),
        (
            (*LABEL, "photos", "-o", "x.csv", "--metrics-file", "bright.onnx"),
            "was not written by batch",
        ),
        (
            (*LABEL, "photos", "-o", "x.csv", "--metrics-file", REPORT),
            "was not written by batch-label",
        ),
        *(
            ((*LABEL, "photos", "-o", "x.csv", "--metrics-file", f".x.csv.journal{end}"), "same")
            for end in ("", "-wal", "-shm", "-journal")
        ),
        ((*LABEL, "m.parquet", "-o", "m.parquet"), "is an input"),
        ((*LABEL, "m.parquet", "-o", "link.csv"), "is an input"),
        ((*LABEL, "photos", "-o", "photos/"), "holds"),
        (("manifest", "photos", "-o", "photos/odd.parquet"), "is a picture"),
        (("manifest", "m.parquet", "-o", "m.parquet"), "one of the inputs"),
        (("diff", REPORT, REPORT, "-o", "photos/odd.csv"), "is a picture"),
        (("report", REPORT, "-o", "photos/odd.html"), "is a picture"),
        (("report", REPORT, "-o", "link.html"), "a report that the page shows"),
        (("merge", REPORT, "--manifest", "m.parquet", "-o", "m.parquet"), "is the manifest"),
        ((*EXPLAIN, "photos/mine.png"), "is a picture"),
    ],
)
def test_a_photo_or_an_input_is_not_replaced(
    made: RunFolder, args: tuple[str, ...], why: str
) -> None:
    before = state_of(made.folder)
    ran = made.command(*args)
    assert ran.returncode in (ExitCode.FAILED, ExitCode.USAGE), ran.stderr
    assert why in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    made.folder.joinpath("x.csv.run.json").unlink(missing_ok=True)  # which tells of the refusal
    assert state_of(made.folder) == before


def test_an_explanation_replaces_an_earlier_one(made: RunFolder, tmp_path: Path) -> None:
    for _ in range(2):
        ran = made.command(*EXPLAIN, tmp_path / "why.png")
        assert ran.returncode == ExitCode.OK, ran.stderr


@pytest.mark.parametrize(
    ("args", "output", "code"),
    [
        (("diff", REPORT, REPORT, "-o"), "d.csv", 2),
        (("report", REPORT, "-o"), "p.html", ExitCode.LOCKED),
        (EXPLAIN, "why.png", ExitCode.LOCKED),
        (("manifest", "photos", "-o"), "n.parquet", ExitCode.LOCKED),
        (("merge", REPORT, "--manifest", "m.parquet", "-o"), "w.csv", ExitCode.LOCKED),
    ],
)
def test_one_process_at_a_time_writes_a_file(
    made: RunFolder, args: tuple[str, ...], output: str, code: int
) -> None:
    with hold_lock(str(made.folder / output)):
        ran = made.command(*args, output)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert "another run is writing" in ran.stderr
    assert not (made.folder / output).exists()
