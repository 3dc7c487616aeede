"""Reports of all shards are merged into the bytes of a single run's report, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import ExitCode
from batch.reports.formats import READABLE_FORMATS
from tests.conftest import Command
from tests.support.abstaining import PAIR, save_abstaining
from tests.support.datasets import files
from tests.support.object_store import Bucket, bucket, s3_server
from tests.support.runs import RunFolder, find_drafts, make_photos, wait_for, wait_for_end
from tests.support.tiny_models import bright_model, bright_spec, save_model

__all__ = ["bucket", "s3_server"]  # fixtures

NUMBER = 24
SHARDS = (1, 2, 3)
FORMATS = [form.value for form in READABLE_FORMATS]
DATASET = "/"
MISSING = "photos/00004.jpg"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, astronaut: Image.Image) -> RunFolder:
    """A folder with whole reports and parts of three shards, in all formats and as datasets."""
    folder = tmp_path_factory.mktemp("labelled")
    photos = make_photos(folder / "photos", NUMBER)
    group = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        group.paste(astronaut, (left, 0))
    group.save(photos / "group.jpg")
    (photos / "broken.jpg").write_bytes(b"no photo")
    (photos / "größe;=1\n.jpg").write_bytes((photos / "00001.jpg").read_bytes())
    place = RunFolder(folder)
    for per_face in ((), ("--per-face",)):
        for form in (*FORMATS, DATASET):
            name = _named(form, per_face)
            _label(place, f"whole-{name}", f"whole{len(per_face)}", *per_face)
            for n in SHARDS:
                state = f"{n}{len(per_face)}"
                _label(place, f"{n}-{name}", state, "--shard", f"{n}/3", *per_face)
    command = place.command("manifest", "photos", "-o", "m.parquet")
    assert command.returncode == 0, command.stderr
    return place


def _named(form: str, per_face: tuple[str, ...] = ()) -> str:
    return f"faces{form}" if per_face else f"photos{form}"


def _label(place: RunFolder, output: str, state: str, *args: str) -> None:
    ran = place.run("photos", "-q", "-o", output, "--state", f"{state}.journal", *args)
    assert ran.returncode in (ExitCode.OK, ExitCode.INCOMPLETE), ran.stderr


@pytest.fixture
def place(labelled: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of these files that a test may damage."""
    shutil.copytree(labelled.folder, tmp_path, dirs_exist_ok=True)
    return RunFolder(tmp_path)


def _parts(form: str, per_face: tuple[str, ...] = ()) -> list[str]:
    return [f"{n}-{_named(form, per_face)}" for n in SHARDS]


def _merged(place: RunFolder, *args: str | Path, output: str = "merged.csv") -> bytes:
    ran = place.command("merge", *args, "-o", output)
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    return (place.folder / output).read_bytes()


def _refused(place: RunFolder, *args: str | Path, before: tuple[str, ...] = ()) -> str:
    """Merge parts that must be refused; return the message."""
    earlier = place.folder / "merged.csv"
    earlier.write_text("earlier")
    ran = place.command("merge", *args, "-o", "merged.csv", before=before)
    assert ran.returncode == ExitCode.USAGE, ran.stderr
    assert earlier.read_text() == "earlier"
    assert not list(place.folder.glob(".merged.csv.*"))
    (line,) = ran.stderr.splitlines()
    return line


@pytest.mark.parametrize("per_face", [(), ("--per-face",)], ids=["photos", "faces"])
@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize("form", FORMATS)
def test_the_whole_is_that_of_a_single_run(
    labelled: RunFolder, tmp_path: Path, form: str, output: str, per_face: tuple[str, ...]
) -> None:
    target = tmp_path / f"merged{output}"
    ran = labelled.command("merge", *_parts(form, per_face)[::-1], "-o", target)
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    assert (
        target.read_bytes() == (labelled.folder / f"whole-{_named(output, per_face)}").read_bytes()
    )


@pytest.mark.parametrize("per_face", [(), ("--per-face",)], ids=["photos", "faces"])
@pytest.mark.parametrize(
    ("form", "output"), [(DATASET, ".csv"), (DATASET, DATASET), (".jsonl", DATASET)]
)
def test_datasets_are_parts_and_wholes_too(
    labelled: RunFolder, tmp_path: Path, form: str, output: str, per_face: tuple[str, ...]
) -> None:
    target, whole = f"merged{output}", f"whole-{_named(output, per_face)}"
    parts = _parts(form, per_face)[::-1]
    ran = labelled.command("merge", *parts, "-o", f"{tmp_path}/{target}")
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    if output == DATASET:
        assert files(tmp_path / target) == files(labelled.folder / whole)
    else:
        assert (tmp_path / target).read_bytes() == (labelled.folder / whole).read_bytes()


@pytest.fixture(scope="module")
def abstaining(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Whole reports and parts of two shards, of models that abstain."""
    place = RunFolder(tmp_path_factory.mktemp("abstaining"))
    save_abstaining(place.folder)
    photos = make_photos(place.folder / "photos", 12)
    for n in range(3):
        Image.new("L", (64, 64 + n)).save(photos / f"black{n}.png")
    for per_face in ((), ("--per-face",)):
        for output in (".csv", DATASET):
            state, args = f"whole{len(per_face)}", ("-m", PAIR, *per_face)
            _label(place, f"whole-{_named(output, per_face)}", state, *args)
        for form in (".csv", ".jsonl", DATASET):
            for n in (1, 2):
                state, args = f"{n}{len(per_face)}", ("--shard", f"{n}/2", "-m", PAIR, *per_face)
                _label(place, f"{n}-{_named(form, per_face)}", state, *args)
    return place


@pytest.mark.parametrize("per_face", [(), ("--per-face",)], ids=["photos", "faces"])
@pytest.mark.parametrize("output", [".csv", DATASET])
@pytest.mark.parametrize("form", [".csv", ".jsonl", DATASET])
def test_photos_without_a_label_are_merged_too(
    abstaining: RunFolder, tmp_path: Path, form: str, output: str, per_face: tuple[str, ...]
) -> None:
    report = (abstaining.folder / f"whole-{_named('.csv', per_face)}").read_text()
    assert ",neither,," in report
    assert report.count(",no_person,,") == 3
    parts, whole = [f"{n}-{_named(form, per_face)}" for n in (2, 1)], _named(output, per_face)
    ran = abstaining.command("merge", *parts, "-o", f"{tmp_path}/m{output}")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert " + 3 no_person + " in ran.stderr
    if output == DATASET:
        assert files(tmp_path / "m") == files(abstaining.folder / f"whole-{whole}")
    else:
        assert (tmp_path / "m.csv").read_text() == report


def test_in_a_store_datasets_are_parts_and_wholes_too(bucket: Bucket, tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 6)
    for n in (1, 2):
        _label(place, bucket.url(f"parts/{n}/"), str(n), "--shard", f"{n}/2")
    _label(place, "whole/", "whole")
    parts = [bucket.url(f"parts/{n}/") for n in (1, 2)]
    ran = place.command("merge", *parts, "-o", bucket.url("all/"))
    assert ran.returncode == ExitCode.OK, ran.stderr
    keys = bucket.store.find(f"{bucket.name}/all")
    found = {key.partition("/all/")[2]: bucket.store.cat_file(key) for key in keys}
    assert found == files(tmp_path / "whole")


def test_a_part_that_is_an_incomplete_dataset(place: RunFolder) -> None:
    next((place.folder / "2-photos").glob("part-*")).unlink()
    told = _refused(place, *_parts(DATASET))
    assert "report 2-photos is incomplete: part-00000-" in told
    assert "is missing; try again if it was replaced just now, else write it again" in told


def test_parts_may_have_any_formats_and_lie_anywhere(labelled: RunFolder, tmp_path: Path) -> None:
    for form in FORMATS:
        for entry in labelled.folder.glob(f"?-photos{form}*"):
            shutil.copy(entry, tmp_path)
    parts = [f"{n}-photos{form}" for n, form in zip(SHARDS, FORMATS, strict=True)]
    ran = RunFolder(tmp_path).command("merge", *parts)
    assert ran.stdout == (labelled.folder / "whole-photos.csv").read_text(encoding="utf-8")


def test_a_merge_has_the_summary_and_exit_code_of_a_run(
    labelled: RunFolder, tmp_path: Path
) -> None:
    run = labelled.run("photos", "-o", tmp_path / "w.csv", "--state", "whole0.journal")
    ran = labelled.command("merge", *_parts(".csv"), "-o", tmp_path / "m.csv")
    (line,) = ran.stderr.splitlines()
    sums, joined = line.split("; ")
    assert sums in run.stderr
    assert sums.startswith(f"batch-label: warning: {NUMBER + 3} found = ")
    assert joined.startswith("joined from 3 parts in ")
    quiet = labelled.command("merge", "-q", "--log-format", "json", *_parts(".jsonl"))
    assert json.loads(quiet.stderr)["by_status"]["failed"] == 1
    assert quiet.returncode == ExitCode.INCOMPLETE
    good = [part for part in _parts(".csv") if "broken" not in (labelled.folder / part).read_text()]
    assert len(good) == 2


def test_texts_of_csv_pass_unchanged(place: RunFolder) -> None:
    part, whole = (place.folder / name for name in ("2-photos.csv", "whole-photos.csv"))
    line = next(ln for ln in part.read_text().splitlines() if ",ok," in ln)
    cell = line.split(",")[3]
    for report in (part, whole):
        lines = report.read_text().splitlines(keepends=True)
        own = line.rpartition(",")[0] if report is whole else line
        changed = own.replace(cell, f"{cell}00000001", 1)
        report.write_text("".join(ln.replace(own, changed) for ln in lines))
    assert _merged(place, *_parts(".csv")) == whole.read_bytes()
    assert f"{cell}00000001".encode() in whole.read_bytes()


@pytest.mark.parametrize("form", [".csv", DATASET])
def test_missing_files_come_last_as_in_a_single_run(place: RunFolder, form: str) -> None:
    (place.folder / MISSING).unlink()
    (place.folder / "photos" / "00001.jpg").unlink()
    _label(place, "whole-photos.csv", "whole0", "--keep-missing")
    for n in SHARDS:
        _label(place, f"{n}-photos{form}", f"{n}0", "--keep-missing", "--shard", f"{n}/3")
    whole = (place.folder / "whole-photos.csv").read_bytes()
    assert b"missing: not found" in whole
    assert _merged(place, *_parts(form)) == whole
    assert "; 2 missing; " in place.command("merge", *_parts(form), "-o", "m.csv").stderr


@pytest.mark.parametrize("form", [*FORMATS, DATASET])
def test_a_shard_may_be_empty(tmp_path: Path, form: str) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 1)
    for n in (1, 2):
        assert place.run("photos", "-o", f"{n}{form}", "--shard", f"{n}/2").returncode == 0
    place.run("photos", "-o", "whole.csv")
    assert place.command("merge", f"1{form}", f"2{form}", "-o", "m.csv").returncode == 0
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_reports_without_rows_are_merged_too(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    (tmp_path / "photos").mkdir()
    for n in (1, 2):
        place.run("photos", "-o", f"{n}.jsonl", "--shard", f"{n}/2")
    place.run("photos", "-o", "whole.csv")
    assert place.command("merge", "1.jsonl", "2.jsonl", "-o", "m.csv").returncode == 0
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_merge_without_rows_has_the_columns_of_its_models(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    save_abstaining(tmp_path)
    (tmp_path / "photos").mkdir()
    for n in (1, 2):
        place.run("photos", "-m", PAIR, "-o", f"{n}.jsonl", "--shard", f"{n}/2")
    place.run("photos", "-m", PAIR, "-o", "whole.csv")
    assert "p_neither,p_no_person" in (tmp_path / "whole.csv").read_text()
    assert place.command("merge", "1.jsonl", "2.jsonl", "-o", "m.csv").returncode == 0
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_shard_that_is_not_there(labelled: RunFolder, place: RunFolder) -> None:
    first, _, third = _parts(".csv")
    told = _refused(place, first, third)
    assert "1 of 3 shards missing: number 2; give their reports too" in told
    told = _refused(place, first, third, "--manifest", "m.parquet")
    assert "1 of 3 shards missing: number 2" in told
    for record in place.folder.glob("*.run.json"):
        record.unlink()
    told = _refused(place, first, third, "--manifest", "m.parquet")
    assert "is in none of the parts" in told
    assert "give the reports of all shards" in told


def test_a_shard_that_is_there_twice(place: RunFolder) -> None:
    told = _refused(place, *_parts(".csv"), "2-photos.jsonl")
    assert "2-photos.csv and report 2-photos.jsonl are both of shard 2/3; give one" in told
    for record in place.folder.glob("*.run.json"):
        record.unlink()
    told = _refused(place, *_parts(".csv"), "2-photos.jsonl", "--manifest", "m.parquet")
    assert "is in report 2-photos.csv and in report 2-photos.jsonl" in told


def test_shards_of_another_number(place: RunFolder) -> None:
    _label(place, "2-photos.csv", "20", "--shard", "2/4")
    assert "of different numbers of shards; give the" in _refused(place, *_parts(".csv"))


@pytest.mark.parametrize("change", ["new", "gone", "renamed"])
def test_shards_of_another_listing(place: RunFolder, change: str) -> None:
    photo = place.folder / "photos" / "00003.jpg"
    if change == "new":
        shutil.copy(photo, photo.with_name("more.jpg"))
    elif change == "gone":
        photo.unlink()
    else:
        photo.rename(photo.with_name("00003-.jpg"))
    _label(place, "2-photos.csv", "20", "--shard", "2/3")
    told = _refused(place, *_parts(".csv"))
    assert "1-photos.csv and report 2-photos.csv have different listings; photos came" in told
    assert "make a manifest first" in told


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--min-confidence", "0.9"), "were labelled with different --min-confidence"),
        (("--salvage",), "were labelled with different --salvage"),
        (("--per-face",), "were labelled with different --per-face"),
        (("-m", "other.onnx"), "were labelled by different models"),
    ],
)
def test_shards_that_were_labelled_in_another_way(
    place: RunFolder, args: tuple[str, ...], told: str
) -> None:
    save_model(bright_model(bright_spec(name="other")), place.folder / "other.onnx")
    _label(place, "2-photos.csv", "20", "--shard", "2/3", *args)
    assert f"1-photos.csv and report 2-photos.csv {told}; label" in _refused(place, *_parts(".csv"))


def _edited(place: RunFolder, name: str, **changes: object) -> None:
    record = place.folder / f"{name}.run.json"
    record.write_text(json.dumps(json.loads(record.read_bytes()) | changes))


def test_shards_of_which_one_was_always_answered(place: RunFolder) -> None:
    record = json.loads((place.folder / "2-photos.csv.run.json").read_bytes())
    _edited(place, "2-photos.csv", settings=record["settings"] | {"always_answer": True})
    told = _refused(place, *_parts(".csv"))
    assert "2-photos.csv were labelled with different --always-answer; label" in told


def test_shards_that_were_labelled_by_another_version(place: RunFolder) -> None:
    _edited(place, "3-photos.csv", basis="ab" * 32)
    assert "by different versions of the program" in _refused(place, *_parts(".csv"))


def test_a_part_of_which_a_later_run_was_interrupted(place: RunFolder) -> None:
    make_photos(place.folder / "photos", 300, first=1000)
    process = place.start("photos", "-o", "2-photos.csv", "--state", "20.journal", "--shard", "2/3")
    wait_for(lambda: (place.folder / "20.journal-journal").exists(), process)
    process.send_signal(signal.SIGTERM)
    assert wait_for_end(process).returncode == ExitCode.TERMINATED
    told = _refused(place, *_parts(".csv"))
    assert (
        "2-photos.csv is older than its last run, which published no report (interrupted)" in told
    )
    assert "run its shard again" in told


def test_reports_that_are_not_of_shards(place: RunFolder) -> None:
    told = _refused(place, "whole-photos.csv")
    assert (
        "whole-photos.csv is not the report of a shard: it has no column `position`; give reports"
        in told
    )
    (place.folder / "2-photos.csv.run.json").unlink()
    told = _refused(place, *_parts(".csv"))
    assert "2-photos.csv has no run record, which its run wrote beside it as .run.json" in told
    shutil.copy(place.folder / "whole-photos.csv.run.json", place.folder / "2-photos.csv.run.json")
    assert "not written by a run with --shard" in _refused(place, *_parts(".csv"))
    assert "gone.csv can't be read" in _refused(place, "gone.csv")


def test_the_report_may_not_be_one_of_the_parts(place: RunFolder) -> None:
    before = (place.folder / "1-photos.csv").read_bytes()
    ran = place.command("merge", *_parts(".csv"), "-o", "./1-photos.csv")
    assert ran.returncode == ExitCode.USAGE
    assert "is one of the parts; name another file" in ran.stderr
    assert (place.folder / "1-photos.csv").read_bytes() == before


@pytest.mark.parametrize("per_face", [(), ("--per-face",)], ids=["photos", "faces"])
@pytest.mark.parametrize("form", FORMATS)
def test_an_incomplete_part_wherever_it_is_cut(
    place: RunFolder, form: str, per_face: tuple[str, ...]
) -> None:
    parts = _parts(form, per_face)
    torn = place.folder / parts[2]
    data = torn.read_bytes()
    cuts = [len(data) - 2, len(data) - 30, len(data) // 2, len(data) // 3, 5, 0]
    cuts += [end + 1 for end in (data.find(b"\n"), data.rfind(b"\n", 0, len(data) - 1))]
    for cut in cuts:
        torn.write_bytes(data[:cut])
        assert torn.name in _refused(place, *parts), cut


def test_a_part_without_a_face(place: RunFolder) -> None:
    part = place.folder / "3-faces.csv"
    lines = part.read_text().splitlines(keepends=True)
    group = [line for line in lines if line.startswith("photos/group.jpg")]
    assert len(group) > 1
    for line in group:
        part.write_text("".join(other for other in lines if other != line))
        assert "3-faces.csv" in _refused(place, *_parts(".csv", ("--per-face",)))


def _twice(lines: list[str]) -> list[str]:
    return [*lines[:3], *lines[2:]]


def _exchange(lines: list[str]) -> list[str]:
    return [line.replace("photos/00004.jpg", "photos/00044.jpg") for line in lines]


def _word(lines: list[str]) -> list[str]:
    return [line.replace("photos/00004.jpg,ok", "photos/00004.jpg,fine") for line in lines]


def _number(lines: list[str]) -> list[str]:
    return [line if n != 3 else f"{line.rpartition(',')[0]},x\n" for n, line in enumerate(lines)]


def _place_less(lines: list[str]) -> list[str]:
    return [line if n != 3 else f"{line.rpartition(',')[0]},\n" for n, line in enumerate(lines)]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (_twice, "2-photos.csv, line 4 is damaged (it is out of the order of `position`, or "),
        (_exchange, "the parts' paths are not those that were listed"),
        (_number, "2-photos.csv, line 4 is damaged (position x is not a whole"),
        (_place_less, "photo number 5 is in none of the parts, but number 6 is in report 3-photos"),
    ],
)
def test_a_part_that_was_edited(
    place: RunFolder, edit: Callable[[list[str]], list[str]], told: str
) -> None:
    part = place.folder / "2-photos.csv"
    part.write_text("".join(edit(part.read_text().splitlines(keepends=True))))
    assert told in _refused(place, *_parts(".csv"))


def test_an_unknown_status(place: RunFolder) -> None:
    part = place.folder / "2-photos.jsonl"
    part.write_text(part.read_text().replace('"status": "ok"', '"status": "fine"', 1))
    assert "2-photos.jsonl, line" in (told := _refused(place, *_parts(".jsonl")))
    assert "status fine is not one of" in told


def test_a_manifest_stands_for_the_records(place: RunFolder) -> None:
    whole = (place.folder / "whole-photos.csv").read_bytes()
    assert _merged(place, *_parts(".csv"), "--manifest", "m.parquet") == whole
    for record in place.folder.glob("*.run.json"):
        record.unlink()
    assert _merged(place, *_parts(".parquet"), "--manifest", "m.parquet") == whole


def test_a_manifest_of_other_photos(place: RunFolder) -> None:
    (place.folder / "photos" / "00003.jpg").rename(place.folder / "photos" / "00003-.jpg")
    place.command("manifest", "photos", "-o", "m.parquet")
    told = _refused(place, *_parts(".csv"), "--manifest", "m.parquet")
    assert "photos/00003.jpg is photo number 4 in report 3-photos.csv" in told
    assert "manifest m.parquet lists photos/00003-.jpg; give the reports of one listing" in told
    place.command("manifest", "photos/00000.jpg", "photos/00001.jpg", "-o", "m.parquet")
    told = _refused(place, *_parts(".csv"), "--manifest", "m.parquet")
    assert "photos/00002.jpg is photo number 3" in told
    assert "ends before it" in told


def test_a_stream_is_joined_with_a_manifest(labelled: RunFolder, tmp_path: Path) -> None:
    for n in SHARDS:
        part = labelled.run("m.parquet", "--shard", f"{n}/3").stdout
        (tmp_path / f"{n}.csv").write_text(part, encoding="utf-8")
    parts = [tmp_path / f"{n}.csv" for n in SHARDS]
    ran = labelled.command("merge", *parts, "--manifest", "m.parquet")
    assert ran.stdout == (labelled.folder / "whole-photos.csv").read_text(encoding="utf-8")


def test_a_signal_leaves_the_earlier_report(place: RunFolder) -> None:
    part = place.folder / "2-photos.csv"
    data = part.read_bytes()
    part.unlink()
    os.mkfifo(part)
    (place.folder / "merged.csv").write_text("earlier")
    process = place.start_command("merge", *_parts(".csv"), "-o", "merged.csv")
    with part.open("wb") as pipe:
        pipe.write(data[: len(data) // 2])
        pipe.flush()
        wait_for(lambda: bool(find_drafts(place.folder, "merged.csv")), process)
        process.send_signal(signal.SIGTERM)
        pipe.write(data[len(data) // 2 :])
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.TERMINATED
    assert "nothing was published" in ran.stderr
    assert (place.folder / "merged.csv").read_text() == "earlier"
    assert not find_drafts(place.folder, "merged.csv")


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is of util-linux")
def test_more_parts_than_files_may_be_open(place: RunFolder) -> None:
    whole = (place.folder / "whole-photos.csv").read_bytes()
    ran = place.command(
        "merge", *_parts(".csv"), "-o", "m.csv", before=("prlimit", "--nofile=50:100")
    )
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    assert (place.folder / "m.csv").read_bytes() == whole
    told = _refused(place, *_parts(".csv"), before=("prlimit", "--nofile=50:60"))
    assert "3 parts can't be open at once: the system allows 60 files; raise its limit" in told


@pytest.mark.parametrize(
    "per_face",
    [(), pytest.param(("--per-face",), marks=pytest.mark.slow)],
    ids=["photos", "faces"],
)
def test_nine_hundred_photos_in_three_shards(
    command: Command, shared_data: Path, tmp_path: Path, per_face: tuple[str, ...]
) -> None:
    with zipfile.ZipFile(shared_data / "photos.zip") as archive:
        archive.extractall(tmp_path)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        ran = command(*args, "-q")
        assert ran.returncode == ExitCode.OK, ran.stderr
        return ran

    run("manifest", "photos", "-o", "m.parquet")
    common = ("-m", "happy-sad", "--provider", "cpu", *per_face)
    for form in FORMATS:  # after the first, all is known
        run("photos", "-o", f"whole{form}", "--state", "whole.journal", *common)
        for n in SHARDS:
            shard = ("--shard", f"{n}/3", "--state", f"{n}.journal")
            run("m.parquet", "-o", f"{n}{form}", *shard, *common)
    for form, output in zip(FORMATS, [*FORMATS[1:], FORMATS[0]], strict=True):
        for target in (form, output):
            run("merge", *(f"{n}{form}" for n in SHARDS), "-o", f"merged{target}")
            merged = (tmp_path / f"merged{target}").read_bytes()
            assert merged == (tmp_path / f"whole{target}").read_bytes()
