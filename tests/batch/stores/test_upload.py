"""Reports in an object store are replaced in one step, and a failing store loses no work."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import ExitCode, OutputError, UsageError
from batch.reports.output import check_destination, open_destination
from batch.reports.report import report_format
from tests.support.object_store import (
    CUT_CONNECTION,
    Bucket,
    bucket,
    fail_first,
    run_failing_proxy,
    s3_server,
)
from tests.support.runs import RunFolder, has_uncommitted_rows, make_photos, wait_for, wait_for_end

__all__ = ["bucket", "s3_server"]  # fixtures


@pytest.fixture
def place(tmp_path: Path, bucket: Bucket) -> RunFolder:
    """A folder of three photos, and the environment of a bucket."""
    make_photos(tmp_path / "photos", 3)
    return RunFolder(tmp_path)


def local_report(place: RunFolder, name: str) -> bytes:
    assert place.run("photos", "-o", name).returncode == ExitCode.OK
    return (place.folder / name).read_bytes()


def journals(place: RunFolder) -> list[str]:
    return sorted(path.name for path in (place.folder / "state" / "batch-label").iterdir())


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl", "r.parquet"])
def test_the_object_is_the_file_to_the_byte(place: RunFolder, bucket: Bucket, name: str) -> None:
    ran = place.run("photos", "-o", bucket.url(f"deep/{name}"))
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert bucket.read(f"deep/{name}") == local_report(place, name)
    assert bucket.keys() == {f"deep/{name}", f"deep/{name}.run.json"}
    assert f"the report is s3://{bucket.name}/deep/{name}" in ran.stderr
    record = json.loads(bucket.read(f"deep/{name}.run.json"))
    assert record["published"]
    assert record["report"] == bucket.url(f"deep/{name}")


def test_a_second_run_knows_the_first_one_s_photos(place: RunFolder, bucket: Bucket) -> None:
    for reused in (0, 3):
        assert place.run("photos", "-o", bucket.url("r.csv")).returncode == ExitCode.OK
        record = json.loads(bucket.read("r.csv.run.json"))
        assert record["counts"]["reused"] == reused
    (name,) = journals(place)
    assert name.startswith(f"{bucket.name}-r.csv-")
    folder = place.folder / "state" / "batch-label"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in place.folder.iterdir()} == {
        "bright.onnx", "home", "photos", "state"}  # fmt: skip


def test_every_url_has_a_journal_of_its_own(place: RunFolder, bucket: Bucket) -> None:
    for key in ("a-b.csv", "a/b.csv"):
        assert place.run("photos", "-o", bucket.url(key)).returncode == ExitCode.OK
    assert len(journals(place)) == 2


def test_another_journal_is_named_by_state(place: RunFolder, bucket: Bucket) -> None:
    ran = place.run("photos", "-o", bucket.url("r.csv"), "--state", "mine.db")
    assert ran.returncode == ExitCode.OK
    assert (place.folder / "mine.db").is_file()
    assert not (place.folder / "state").exists()


def test_the_state_s_usual_folder_is_in_the_home(place: RunFolder, bucket: Bucket) -> None:
    # By the spec a path that is not absolute is to be ignored.
    ran = place.run("photos", "-o", bucket.url("r.csv"), XDG_STATE_HOME="relative")
    assert ran.returncode == ExitCode.OK
    (journal,) = (place.folder / "home/.local/state/batch-label").iterdir()
    assert journal.suffix == ".journal"


@pytest.mark.parametrize("status", [500, 503, CUT_CONNECTION])
def test_an_upload_that_fails_for_a_while_succeeds(
    place: RunFolder, bucket: Bucket, status: int
) -> None:
    fails = failing_puts(2, status)
    with run_failing_proxy(bucket.endpoint, fails) as proxy:
        ran = place.run("photos", "-o", bucket.url("r.csv"), AWS_ENDPOINT_URL=proxy.endpoint)
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert bucket.read("r.csv") == local_report(place, "r.csv")


def failing_puts(number: int, status: int) -> Callable[[str, str], int | None]:
    return fail_first(number, status, "PUT")


def test_a_failed_upload_costs_no_work_and_leaves_the_earlier_report(
    place: RunFolder, bucket: Bucket
) -> None:
    bucket.write("r.csv", b"the earlier report")
    with run_failing_proxy(bucket.endpoint, failing_puts(10_000, 403)) as proxy:
        ran = place.run("photos", "-o", bucket.url("r.csv"), AWS_ENDPOINT_URL=proxy.endpoint)
    assert ran.returncode == ExitCode.FAILED
    assert f"report s3://{bucket.name}/r.csv can't be written (" in ran.stderr
    assert "check the credentials and what they allow" in ran.stderr
    assert bucket.read("r.csv") == b"the earlier report"
    assert bucket.keys() == {"r.csv"}
    again = place.run("photos", "-o", bucket.url("r.csv"))
    assert again.returncode == ExitCode.OK
    assert json.loads(bucket.read("r.csv.run.json"))["counts"]["labelled_now"] == 0
    assert bucket.read("r.csv") == local_report(place, "r.csv")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://no-such-bucket-here/r.csv", "check the spelling of the bucket"),
        ("s3://no-such-bucket-here/r.xls", "has no suffix that names a format"),
        ("http://127.0.0.1/r.csv", "web server"),
        ("zip://r.csv::s3://bucket/a.zip", "into an archive"),
        ("nowhere://bucket/r.csv", "Protocol not known"),
    ],
)
def test_a_url_that_cannot_be_written_stops_the_run_at_its_start(
    place: RunFolder, url: str, why: str
) -> None:
    ran = place.run("photos", "-o", url)
    assert ran.returncode in (ExitCode.FAILED, ExitCode.USAGE)
    assert why in ran.stderr
    assert "photos found" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_the_check_asks_for_the_right_to_write_and_leaves_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(method: str, path: str) -> int | None:
        return 403 if method == "POST" else None

    check_destination(bucket.url("r.csv"))
    assert not bucket.keys()
    assert not bucket.unfinished()
    with run_failing_proxy(bucket.endpoint, denied) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        type(bucket.store).clear_instance_cache()
        with pytest.raises(OutputError, match="check the credentials and what they allow"):
            check_destination(bucket.url("r.csv"))


def test_a_run_that_is_stopped_uploads_nothing(place: RunFolder, bucket: Bucket) -> None:
    make_photos(place.folder / "photos", 400)
    run = place.start("photos", "-o", bucket.url("r.csv"))
    folder = place.folder / "state" / "batch-label"
    wait_for(lambda: folder.is_dir() and any(folder.glob("*.journal-journal")), run)
    run.send_signal(signal.SIGTERM)
    assert wait_for_end(run).returncode == ExitCode.TERMINATED
    assert bucket.keys() == {"r.csv.run.json"}


def test_two_runs_on_the_same_machine_have_one_lock(place: RunFolder, bucket: Bucket) -> None:
    make_photos(place.folder / "photos", 400)
    run = place.start("photos", "-o", bucket.url("r.csv"))
    folder = place.folder / "state" / "batch-label"
    wait_for(lambda: any(map(has_uncommitted_rows, folder.glob("*.journal"))), run)
    run.send_signal(signal.SIGSTOP)  # or it might be done before the other has started
    other = place.run("photos", "-o", bucket.url("r.csv"))
    run.kill()
    run.communicate()
    assert other.returncode == ExitCode.LOCKED
    assert f"another run is writing the report s3://{bucket.name}/r.csv" in other.stderr


def test_differences_are_read_from_a_store_and_written_to_it(
    place: RunFolder, bucket: Bucket
) -> None:
    for name in ("old.csv", "new.parquet"):
        bucket.write(name, local_report(place, name))
        make_photos(place.folder / "photos", 1, first=3)
    urls = [bucket.url(name) for name in ("old.csv", "new.parquet", "changes.jsonl")]
    ran = place.command("diff", urls[0], urls[1], "-o", urls[2])
    assert ran.returncode == ExitCode.OK, ran.stderr
    (change,) = [json.loads(line) for line in bucket.read("changes.jsonl").splitlines()]
    assert (change["change"], change["path"]) == ("new", "photos/00003.jpg")
    assert f"{urls[0]}: 3 photos; {urls[1]}: 4" in ran.stderr
    same = place.command("diff", urls[0], urls[1], "-o", urls[1])
    assert "is one of the reports to compare" in same.stderr
    gone = place.command("diff", urls[0], bucket.url("gone.csv"))
    assert gone.returncode == 2
    assert f"report {bucket.url('gone.csv')} can't be read" in gone.stderr


def test_any_store_of_fsspec_is_written_to() -> None:
    import fsspec

    output = open_destination("memory://outputs/r.csv", io.BytesIO())
    output.stream.write(b"rows")
    store = fsspec.filesystem("memory")
    assert not store.exists("/outputs/r.csv")
    output.publish()
    assert store.cat_file("/outputs/r.csv") == b"rows"
    store.rm("/outputs", recursive=True)


def test_a_file_s_url_is_its_path(tmp_path: Path) -> None:
    output = open_destination(f"file://{tmp_path}/r.csv", io.BytesIO())
    output.stream.write(b"rows")
    output.publish()
    assert (tmp_path / "r.csv").read_bytes() == b"rows"


def test_the_url_gives_the_format() -> None:
    assert report_format("s3://bucket.name/r.CSV") == ".csv"
    with pytest.raises(UsageError, match="no suffix"):
        report_format("s3://bucket.csv/results")
