"""Buckets at Google's and Azure's are listed page by page, read and written like those of S3."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from batch.discovery.discover import Discovery
from batch.discovery.listing import look_up
from batch.options import Search
from batch.records import Failure, Reason
from batch.stores.download import read_object
from batch.stores.store import open_store
from tests.support.clouds import ACCOUNT, CloudBucket, azure, cloud, google
from tests.support.hostile_server import limit_memory
from tests.support.object_store import fail_first, run_failing_proxy
from tests.support.runs import REPORT, RunFolder, make_photos

__all__ = ["azure", "cloud", "google"]

PHOTOS = 7


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", PHOTOS)
    return RunFolder(tmp_path)


@pytest.fixture
def full(place: RunFolder, cloud: CloudBucket) -> CloudBucket:
    """The bucket with the same photos as the folder."""
    for photo in sorted((place.folder / "photos").iterdir()):
        cloud.write(f"photos/{photo.name}", photo.read_bytes())
    return cloud


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.stores.listing_pages.OBJECTS_PER_PAGE", 3)


NAMES = ("a b?c=d.jpg", "a#1.jpg", "a%41.jpg", "z.jpg", "ä.jpg", "猫.jpg")
DEEPER = ("a/1.jpg", "a/2/3.jpg", "a-b/1.jpg")


@pytest.mark.usefixtures("small_pages")
class TestListing:
    def test_gives_names_in_the_order_of_their_bytes(self, cloud: CloudBucket) -> None:
        for name in (*NAMES, *DEEPER):
            cloud.write(f"p/{name}", name.encode())
        cloud.write("p-other/1.jpg", b"x")
        found = [file.path for file in Discovery([cloud.url("p")], Search())]
        assert found == [cloud.url(f"p/{n}") for n in sorted((*NAMES, *DEEPER), key=str.encode)]

    def test_without_recursion_does_not_look_into_folders(self, cloud: CloudBucket) -> None:
        for name in (*NAMES, *DEEPER):
            cloud.write(f"p/{name}", name.encode())
        left_out: list[str] = []
        search = Search(recursive=False)
        found = Discovery([cloud.url("p")], search, on_skip=lambda _, why: left_out.append(why))
        assert [file.path for file in found] == [cloud.url(f"p/{name}") for name in NAMES]
        assert left_out == []

    def test_of_a_whole_bucket(self, cloud: CloudBucket) -> None:
        for name in DEEPER:
            cloud.write(name, b"x")
        assert len(list(Discovery([cloud.url()], Search()))) == len(DEEPER)

    def test_says_what_a_look_at_each_object_says(self, full: CloudBucket) -> None:
        found = list(Discovery([full.url("photos")], Search()))
        assert all(file.etag and file.size and file.mtime_ns for file in found)
        assert found == [look_up(file.path).found for file in found]

    def test_asks_for_one_page_after_the_other(
        self, full: CloudBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with run_failing_proxy(full.endpoint, lambda *_: None) as proxy:
            full.set_endpoint(proxy.endpoint, monkeypatch)
            found = iter(Discovery([full.url("photos")], Search()))
            next(found)
            asked = [path for _, path in proxy.asked if "axresults=3" in path.lower()]
            assert len(asked) == 1  # and no more before what it gave is used up
            assert len(list(found)) == PHOTOS - 1
        pages = [path for _, path in proxy.asked if "axresults=3" in path.lower()]
        assert len(pages) == 3
        assert sum("pageToken" in path or "marker" in path for path in pages) == 2

    def test_that_breaks_off_is_a_failure_and_no_end(
        self, full: CloudBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def second_page(method: str, path: str) -> int | None:
            return 403 if "pageToken" in path or "marker" in path else None

        with run_failing_proxy(full.endpoint, second_page) as proxy:
            full.set_endpoint(proxy.endpoint, monkeypatch)
            *found, last = Discovery([full.url("photos")], Search())
        assert len(found) == 3
        assert isinstance(last.failure, Failure)
        assert last.failure.reason is Reason.UNREADABLE

    def test_leaves_out_what_stands_for_a_folder(self, full: CloudBucket) -> None:
        if full.scheme == "gs":
            full.write("photos/deeper.jpg/", b"")
        else:
            # As accounts with a hierarchical namespace have them.
            folder = f"{full.name}/photos/deeper.jpg"
            full.store.pipe_file(folder, b"")
            full.store.setxattrs(folder, Hdi_isfolder="true")
        left_out: list[str] = []
        found = Discovery(
            [full.url("photos")], Search(), on_skip=lambda _, why: left_out.append(why)
        )
        assert len(list(found)) == PHOTOS
        assert left_out == []

    def test_goes_by_a_pattern(self, full: CloudBucket) -> None:
        found = Discovery([full.url("photos/*[12].jpg")], Search())
        assert [file.path for file in found] == [full.url(f"photos/0000{n}.jpg") for n in (1, 2)]

    def test_names_the_account_as_the_input_does(self, full: CloudBucket) -> None:
        if full.scheme == "gs":
            pytest.skip("Google's URLs name no account")
        photos = f"abfs://{full.name}@{ACCOUNT}.dfs.core.windows.net/photos"
        found = [file.path for file in Discovery([photos, f"{photos}/*3.jpg"], Search())]
        assert found == [f"{photos}/{n:05}.jpg" for n in range(PHOTOS)]
        store, path = open_store(found[3])
        assert store.cat_file(path) == full.read("photos/00003.jpg")


class TestReading:
    def test_what_is_packed_is_unpacked_to_the_limit(self, cloud: CloudBucket) -> None:
        encoded = {
            "gs": {"fixed_key_metadata": {"content_encoding": "gzip"}},
            "az": {"content_settings": {"content_encoding": "gzip"}},
        }[cloud.scheme]
        for name, data in (("small", b"a photo"), ("bomb", bytes(200 * 1024**2))):
            packed = gzip.compress(data, 1)
            cloud.store.pipe_file(f"{cloud.name}/{name}", packed, **encoded)
        assert read_object(cloud.url("small"), 100) == b"a photo"
        with limit_memory(1024**2 + len(packed)):
            assert read_object(cloud.url("bomb"), 1024**2) == bytes(1024**2)

    def test_objects_of_all_sizes(self, cloud: CloudBucket) -> None:
        for size in (0, 1, 900_000):
            cloud.write("a", bytes(size))
            assert read_object(cloud.url("a"), 1024**2) == bytes(size)
            assert read_object(cloud.url("a"), 1000) == bytes(min(size, 1000))

    def test_what_is_not_there(self, cloud: CloudBucket) -> None:
        with pytest.raises(FileNotFoundError):
            read_object(cloud.url("nothing"), 1000)


class TestRuns:
    def test_give_the_folder_s_report_and_read_again_what_has_changed(
        self, place: RunFolder, full: CloudBucket
    ) -> None:
        place.label()
        due = place.report.read_text().replace("photos/", full.url("photos/"))
        ran = place.run(full.url("photos"), "-o", full.url("out/r.csv"))
        assert ran.returncode == 0, ran.stderr
        assert full.read("out/r.csv").decode() == due
        photo = full.read("photos/00000.jpg")
        full.write("photos/00000.jpg", photo[:-1] + bytes([photo[-1] ^ 1]))  # of the same size
        place.run(full.url("photos"), "-o", full.url("out/r.csv"))
        counts = json.loads(full.read("out/r.csv.run.json"))["counts"]
        assert (counts["labelled_now"], counts["reused"]) == (1, PHOTOS - 1)

    def test_write_a_dataset_and_replace_it(self, place: RunFolder, full: CloudBucket) -> None:
        pytest.importorskip("pyarrow")
        for number in (PHOTOS, PHOTOS + 1):
            make_photos(place.folder / "photos", number)
            ran = place.run("photos", "-o", full.url("out/r/"))
            assert ran.returncode == 0, ran.stderr
        place.run("photos", "-o", "r/")
        due = [path for path in (place.folder / "r").rglob("*") if path.is_file()]
        names = {f"out/{path.relative_to(place.folder).as_posix()}" for path in due}
        assert {key for key in full.keys() if key.startswith("out/r/")} == names  # noqa: SIM118

    def test_leave_alone_what_is_no_dataset(self, place: RunFolder, full: CloudBucket) -> None:
        pytest.importorskip("pyarrow")
        ran = place.run("photos", "-o", full.url("photos/"))
        assert ran.returncode == 1
        assert "00000.jpg" in ran.stderr
        assert len(full.keys()) == PHOTOS

    def test_survive_a_server_that_fails_now_and_then(
        self, place: RunFolder, full: CloudBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if full.scheme == "az":
            pytest.skip("Azure's client waits for 15 seconds before it asks again")
        with run_failing_proxy(full.endpoint, fail_first(2, 503)) as proxy:
            full.set_endpoint(proxy.endpoint, monkeypatch)
            ran = place.run(full.url("photos"), "-o", REPORT)
        assert ran.returncode == 0, ran.stderr
        assert place.counts()["labelled_now"] == PHOTOS


class TestWhatIsNotThere:
    def test_bucket(self, place: RunFolder, cloud: CloudBucket) -> None:
        nowhere = cloud.url("photos").replace(cloud.name, "nowhere")
        ran = place.run(nowhere, "-o", REPORT)
        assert ran.returncode == 2
        assert f"input {nowhere} can't be found" in ran.stderr

    def test_bucket_of_the_report_is_missed_before_the_work(
        self, place: RunFolder, cloud: CloudBucket
    ) -> None:
        report = cloud.url(REPORT).replace(cloud.name, "nowhere")
        ran = place.run("photos", "-o", report)
        assert ran.returncode == 1
        assert re.search(rf"report {report} can't be written .*; check the spelling", ran.stderr)
        assert "photos found" not in ran.stderr

    def test_right_to_look(
        self, place: RunFolder, full: CloudBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with run_failing_proxy(full.endpoint, lambda *_: 403) as proxy:
            full.set_endpoint(proxy.endpoint, monkeypatch)
            ran = place.run(full.url("photos"), "-o", REPORT)
            asked = len(proxy.asked)
        assert ran.returncode == 2
        assert "check the credentials and what they allow" in ran.stderr
        assert asked < 6  # for it is no use to ask again

    def test_account(
        self, place: RunFolder, full: CloudBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if full.scheme == "gs":
            pytest.skip("Google's buckets need no account")
        monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
        ran = place.run(full.url("photos"), "-o", REPORT)
        assert ran.returncode == 2
        assert "AZURE_STORAGE_CONNECTION_STRING is set" in ran.stderr
