"""Photos in a bucket or on a web server are found and labelled like those in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch.discovery.discover import Discovery
from batch.discovery.remote import look_up
from batch.errors import InputError
from batch.options import Search
from batch.records import Failure, Reason
from tests.support.object_store import (
    CUT_CONNECTION,
    Bucket,
    bucket,
    fail_first,
    run_failing_proxy,
    s3_server,
)
from tests.support.runs import REPORT, RunFolder, make_photos
from tests.support.web_server import serve_folder

__all__ = ["bucket", "s3_server"]

PHOTOS = 12


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", PHOTOS)
    return RunFolder(tmp_path)


@pytest.fixture
def full(place: RunFolder, bucket: Bucket) -> Bucket:
    """A bucket with the same photos as the folder."""
    for photo in sorted((place.folder / "photos").iterdir()):
        bucket.write(f"photos/{photo.name}", photo.read_bytes())
    return bucket


def expected(place: RunFolder, full: Bucket) -> str:
    """Return the expected report of the bucket: that of the folder, with other paths."""
    place.label()
    return place.report.read_text().replace("photos/", full.url("photos/"))


class TestABucket:
    def test_gives_the_same_report_as_the_folder(self, place: RunFolder, full: Bucket) -> None:
        due = expected(place, full)
        full.write("photos/notes.txt", b"no photo")
        full.write("photos/.hidden.jpg", b"x")
        for source in (full.url("photos"), full.url("photos/"), full.url("photos/*.jpg")):
            ran = place.run(source, "-o", REPORT, "--fresh")
            assert ran.returncode == 0, ran.stderr
            assert place.report.read_text() == due
        assert "2 skipped" in place.run(full.url("photos"), "-o", REPORT).stderr

    def test_is_read_again_only_where_it_has_changed(self, place: RunFolder, full: Bucket) -> None:
        place.run(full.url("photos"), "-o", REPORT)
        assert place.counts()["labelled_now"] == PHOTOS
        photo = full.read("photos/00000.jpg")
        full.write("photos/00000.jpg", photo[:-1] + bytes([photo[-1] ^ 1]))  # of the same size
        full.write("photos/new.jpg", photo + bytes(1))
        place.run(full.url("photos"), "-o", REPORT)
        counts = place.counts()
        assert (counts["found"], counts["labelled_now"], counts["reused"]) == (13, 2, 11)

    def test_retries_requests_to_a_server_that_fails_now_and_then(
        self, place: RunFolder, full: Bucket
    ) -> None:
        due = expected(place, full)
        numbers = iter(range(10**6))

        def every_third(method: str, path: str) -> int | None:
            number = next(numbers)
            return (500, 503, CUT_CONNECTION)[number // 3 % 3] if number % 3 == 0 else None

        with run_failing_proxy(full.endpoint, every_third) as proxy:
            ran = place.run(
                full.url("photos"), "-o", REPORT, "--fresh", AWS_ENDPOINT_URL=proxy.endpoint
            )
        assert ran.returncode == 0, ran.stderr
        assert len(proxy.asked) > PHOTOS * 4 / 3
        assert place.report.read_text() == due

    def test_object_that_can_never_be_read_fails_alone(
        self, place: RunFolder, full: Bucket
    ) -> None:
        def one(method: str, path: str) -> int | None:
            return 403 if method == "GET" and "00004.jpg" in path else None

        with run_failing_proxy(full.endpoint, one) as proxy:
            ran = place.run(full.url("photos"), "-o", REPORT, AWS_ENDPOINT_URL=proxy.endpoint)
        assert ran.returncode == 3, ran.stderr
        failed = [row for row in place.rows().values() if row["error"]]
        assert [row["path"] for row in failed] == [full.url("photos/00004.jpg")]
        assert failed[0]["error"].startswith("unreadable: ")
        # And the next night tries again.
        place.run(full.url("photos"), "-o", REPORT)
        assert (place.counts()["labelled_now"], place.counts()["reused"]) == (1, PHOTOS - 1)

    def test_object_that_is_deleted_meanwhile_is_reported_as_vanished(
        self, place: RunFolder, full: Bucket
    ) -> None:
        def delete(method: str, path: str) -> int | None:
            if method == "GET" and path.endswith("00000.jpg"):
                full.store.rm_file(f"{full.name}/photos/00011.jpg")
            return None

        with run_failing_proxy(full.endpoint, delete) as proxy:
            ran = place.run(full.url("photos"), "-o", REPORT, AWS_ENDPOINT_URL=proxy.endpoint)
        assert ran.returncode == 3
        rows = place.rows()
        assert len(rows) == PHOTOS
        # Unless it had been fetched by then, as photos are fetched ahead.
        last = rows[full.url("photos/00011.jpg")]
        assert last["error"].startswith("vanished: ") or not last["error"]

    def test_archives_in_it_are_read_in_place(self, place: RunFolder, full: Bucket) -> None:
        import tarfile

        due = expected(place, full)
        with tarfile.open(place.folder / "p.tar", "w") as file:
            file.add(place.folder / "photos", "photos")
        full.write("shards/0.tar", (place.folder / "p.tar").read_bytes())
        ran = place.run(full.url("shards/*.tar"), "-o", REPORT)
        assert ran.returncode == 0, ran.stderr
        shard = full.url("shards/0.tar")
        names = place.report.read_text().replace("tar://", "").replace(f"::{shard}", "")
        assert sorted(names.splitlines()) == sorted(
            due.replace(full.url("photos/"), "photos/").splitlines()
        )

    def test_is_listed_page_by_page(self, full: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("batch.stores.page_listers.OBJECTS_PER_PAGE", 5)
        full.write("photos/deeper/z.jpg", b"z")
        pages = []
        with run_failing_proxy(full.endpoint, lambda *asked: pages.append(asked)) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            full.store.clear_instance_cache()
            found = list(Discovery([full.url("photos")], Search()))
            flat = list(Discovery([full.url("photos")], Search(recursive=False)))
        assert len(found) == PHOTOS + 1
        assert len(flat) == PHOTOS
        assert sum("continuation-token" in path for _, path in pages) >= 4
        assert all(file.etag and file.size and file.mtime_ns for file in found)
        assert found == [look_up(file.path).found for file in found]
        assert [file.path for file in found] == sorted(file.path for file in found)

    def test_may_have_names_that_look_like_patterns_and_chains(
        self, place: RunFolder, full: Bucket
    ) -> None:
        photo = full.read("photos/00000.jpg")
        names = ["[2024] party/a*.jpg", "[2024] party/c::d.jpg", "2 party/b.jpg", "what?.jpg"]
        for name in names:
            full.write(name, photo)
        full.write("list.txt", b"[2024] party/\n[2024] party\n2 party/b.jpg\n")
        there = {full.url(name) for name in names}
        for source, count in (
            ("[2024] party", 2),
            ("[2024] party/", 2),
            ("[2024] party/a*.jpg", 1),
            ("[2024] party/c::d.jpg", 1),
            ("[[]2024] party/*.jpg", 2),
            ("what?.jpg", 1),
            ("list.txt", 3),
        ):
            found = list(Discovery([full.url(source)], Search()))
            assert len(found) == count, source
            assert {file.path for file in found} <= there
        ran = place.run(full.url("list.txt"), "-o", full.url("a::b.csv"))
        assert ran.returncode == 0, ran.stderr
        assert "1 folder in a list" in ran.stderr
        assert full.read("a::b.csv").count(b",ok,") + full.read("a::b.csv").count(b",unsure,") == 3

    def test_two_ways_to_an_object_are_one(self, full: Bucket) -> None:
        inputs = [full.url("photos"), full.url("photos/00003.jpg"), full.url("photos/")]
        assert len(list(Discovery(inputs, Search()))) == PHOTOS

    def test_listing_that_breaks_off_is_a_failure_and_no_end(
        self, full: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("batch.stores.page_listers.OBJECTS_PER_PAGE", 5)

        def second_page(method: str, path: str) -> int | None:
            return 403 if "continuation-token" in path else None

        with run_failing_proxy(full.endpoint, second_page) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            full.store.clear_instance_cache()
            *found, last = Discovery([full.url("photos")], Search())
        assert len(found) == 5
        assert isinstance(last.failure, Failure)
        assert last.failure.reason is Reason.UNREADABLE


class TestWhatIsNotThere:
    def test_bucket(self, place: RunFolder, bucket: Bucket) -> None:
        ran = place.run("s3://no-such-bucket/photos", "-o", REPORT)
        assert ran.returncode == 2
        assert "input s3://no-such-bucket/photos can't be found" in ran.stderr

    def test_prefix(self, place: RunFolder, full: Bucket) -> None:
        ran = place.run(full.url("nothing"), "-o", REPORT)
        assert ran.returncode == 2
        assert "can't be found" in ran.stderr

    def test_pattern_that_matches_nothing(self, full: Bucket) -> None:
        with pytest.raises(InputError, match="no file matches"):
            Discovery([full.url("photos/*.png")], Search())

    def test_credentials(self, place: RunFolder, full: Bucket) -> None:
        with run_failing_proxy(full.endpoint, fail_first(1000, 403)) as proxy:
            ran = place.run(full.url("photos"), "-o", REPORT, AWS_ENDPOINT_URL=proxy.endpoint)
        assert ran.returncode == 2
        assert "check the credentials" in ran.stderr

    def test_scheme(self, place: RunFolder) -> None:
        ran = place.run("nosuch://bucket/photos", "-o", REPORT)
        assert ran.returncode == 2
        assert "nosuch://bucket/photos" in ran.stderr


@pytest.fixture
def aiohttp() -> None:
    pytest.importorskip("aiohttp")


@pytest.mark.usefixtures("aiohttp")
class TestAWebServer:
    def test_a_list_of_urls(self, place: RunFolder) -> None:
        place.label()
        due = place.report.read_text()
        names = [f"photos/{n:05}.jpg" for n in range(PHOTOS)]
        with serve_folder(place.folder) as server:
            # Half of them relative to the list.
            lines = [name if n % 2 else f"{server}/{name}" for n, name in enumerate(names)]
            (place.folder / "list.txt").write_text("\n".join([*lines, "", "photos/gone.jpg"]))
            ran = place.run(f"{server}/list.txt", "-o", REPORT)
        assert ran.returncode == 3, ran.stderr
        *lines, gone = place.report.read_text().replace(f"{server}/", "").splitlines()
        assert lines == due.splitlines()
        assert gone.startswith("photos/gone.jpg,failed,")
        assert "vanished:" in gone

    def test_a_photo_that_was_replaced_is_read_again(self, place: RunFolder) -> None:
        """The server sends Last-Modified but no ETag."""
        photo = place.folder / "photos" / "00000.jpg"
        with serve_folder(place.folder) as server:

            def stamp(time: int) -> tuple[int | None, int | None]:
                os.utime(photo, (time, time))
                (found,) = Discovery([f"{server}/photos/00000.jpg"], Search())
                return found.size, found.mtime_ns

            first = stamp(1_700_000_000)
            assert first == stamp(1_700_000_000) == (photo.stat().st_size, 1_700_000_000 * 10**9)
            assert stamp(1_700_000_001) != first

    def test_a_missing_photo_is_named(self, place: RunFolder) -> None:
        with serve_folder(place.folder) as server:
            ran = place.run(f"{server}/gone.jpg", "-o", REPORT)
        assert ran.returncode == 2
        assert ran.stderr == (
            f"batch-label: input {server}/gone.jpg can't be found (No such file or directory); "
            "check the spelling, and that the store can be reached from here\n"
        )

    def test_one_photo(self, place: RunFolder) -> None:
        with serve_folder(place.folder) as server:
            ran = place.run(f"{server}/photos/00000.jpg", "-o", REPORT)
        assert ran.returncode == 0, ran.stderr
        assert list(place.rows()) == [f"{server}/photos/00000.jpg"]

    def test_an_archive(self, place: RunFolder) -> None:
        import shutil

        shutil.make_archive(str(place.folder / "p"), "zip", place.folder, "photos")
        with serve_folder(place.folder) as server:
            ran = place.run(f"{server}/p.zip", "-o", REPORT)
        assert ran.returncode == 0, ran.stderr
        assert len(place.rows()) == PHOTOS


def test_a_file_url_is_a_path(place: RunFolder) -> None:
    place.label()
    due = place.report.read_text()
    ran = place.run(f"file://{place.folder}/photos", "-o", "r2.csv")
    assert ran.returncode == 0, ran.stderr
    report = (place.folder / "r2.csv").read_text()
    assert report.replace(f"{place.folder}/photos", "photos") == due


@pytest.mark.parametrize(
    ("etag", "modified", "expected"),
    [
        ('"a"', None, ("a", None)),
        ('"a"', "Sun, 06 Nov 1994 08:49:37 GMT", ("a", 784111777)),
        ('W/"a"', None, ("a", None)),
        ('W/"a"', "Sun, 06 Nov 1994 08:49:37 GMT", ("a 784111777000000000", 784111777)),
        (None, "Sun, 06 Nov 1994 08:49:37 GMT", (None, 784111777)),
        ('W/""', "yesterday", (None, None)),
        ("", "Sun, 06 Nov 99999 08:49:37 GMT", (None, None)),
    ],
)
def test_etag_and_time_of_a_web_server(
    etag: str | None, modified: str | None, expected: tuple[str | None, int | None]
) -> None:
    from batch.discovery.remote import StoreEntry

    info = {"size": 1, "type": "file", "ETag": etag, "Last-Modified": modified}
    found = StoreEntry("https://h/a.jpg", None, "", info).found
    seconds = None if found.mtime_ns is None else found.mtime_ns // 10**9
    assert (found.etag, seconds) == expected


def test_a_store_without_pages_is_listed_folder_by_folder() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("b/2.jpg", "b/1.jpg", "a.jpg", "b-c/3.jpg", "b/notes.txt"):
        store.pipe_file(f"/tree/{name}", b"x")
    skipped: list[str] = []
    found = Discovery(["memory://tree"], Search(), on_skip=lambda path, why: skipped.append(why))
    assert [file.path for file in found] == [
        "memory:///tree/a.jpg",
        "memory:///tree/b/1.jpg",
        "memory:///tree/b/2.jpg",
        "memory:///tree/b-c/3.jpg",
    ]
    assert skipped == ["no image"]
