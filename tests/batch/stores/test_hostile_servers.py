"""Servers that lie, pack, and never come to an end cost their own row and little memory."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import batch
from batch.discovery import fetching, listing
from batch.discovery.discover import Discovery
from batch.discovery.fetching import FetchedFile, Fetcher
from batch.discovery.listing import list_urls, read_url_list
from batch.errors import InputError
from batch.location import Url
from batch.options import Search
from batch.records import Failure, Reason
from batch.stores import download
from batch.stores import http as answers
from batch.stores import requests as retrying
from batch.stores.listing_pages import _list_s3
from batch.stores.store import open_store
from tests.support.hostile_server import MEGABYTE, build_head, limit_memory, send_reply, serve_http
from tests.support.object_store import Bucket, bucket, s3_server
from tests.support.runs import REPORT, RunFolder, make_photos
from tests.support.tiny_models import bright_model, save_model

pytest.importorskip("aiohttp")

__all__ = ["bucket", "s3_server"]

MAX = 2 * len(MEGABYTE)
# Bytes that a test's server sends at most, so that a guard that is gone costs a failure and not
# the machine.
ENDLESS = 200


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", 1)
    return RunFolder(tmp_path)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.001)


def fetched(answer: Callable[[socket.socket], None], size: int | None = None) -> bytes | Failure:
    """Fetch a file that a server answers in this manner."""
    with serve_http(lambda connection, method, path: answer(connection)) as server:
        return Fetcher(MAX).fetch(Url(f"{server}/a.jpg", size=size)).content


def failure(content: bytes | Failure) -> tuple[Reason, str]:
    assert isinstance(content, Failure)
    return content.reason, content.detail


def send_without_end(connection: socket.socket, *headers: str, status: str = "200 OK") -> None:
    connection.sendall(build_head(*headers, status=status))
    for _ in range(ENDLESS):
        connection.sendall(MEGABYTE)


class TestABody:
    @pytest.mark.parametrize("size", [None, 10, MAX])
    def test_without_an_end_is_read_to_the_limit(self, size: int | None) -> None:
        sent: list[None] = []

        def send_much(connection: socket.socket) -> None:
            connection.sendall(build_head())
            for _ in range(ENDLESS):
                connection.sendall(MEGABYTE)
                sent.append(None)

        with limit_memory(MAX):
            content = fetched(send_much, size)
        assert failure(content)[0] is Reason.TOO_LARGE
        assert len(sent) < ENDLESS / 2  # with what the system holds

    def test_that_is_packed_is_unpacked_to_the_limit(self) -> None:
        packed = gzip.compress(MEGABYTE * ENDLESS, 1)
        assert len(packed) < len(MEGABYTE)
        with limit_memory(MAX + len(packed)):
            content = fetched(lambda c: send_reply(c, packed, "Content-Encoding: gzip"))
        assert failure(content)[0] is Reason.TOO_LARGE

    @pytest.mark.parametrize(
        ("packed", "encoding"),
        [
            (gzip.compress(b"a photo", mtime=0), "gzip"),
            (gzip.compress(b"a ", mtime=0) + gzip.compress(b"photo", mtime=0), "x-gzip"),
            (zlib.compress(b"a photo"), "deflate"),
            (b"a photo", "identity"),
        ],
    )
    def test_that_is_packed_unasked_is_read(self, packed: bytes, encoding: str) -> None:
        assert (
            fetched(lambda c: send_reply(c, packed, f"Content-Encoding: {encoding}")) == b"a photo"
        )

    @pytest.mark.parametrize(
        ("packed", "encoding", "why"),
        [
            (gzip.compress(bytes(10_000), mtime=0)[:-9], "gzip", "gzip data ends too early"),
            (b"no gzip at all", "gzip", "incorrect header check"),
            (b"a photo", "br", "in the encoding 'br'"),
            (
                gzip.compress(gzip.compress(b"", mtime=0), mtime=0),
                "gzip, gzip",
                "in the encoding 'gzip, gzip'",
            ),
        ],
    )
    def test_that_can_t_be_unpacked_is_unreadable(
        self, packed: bytes, encoding: str, why: str
    ) -> None:
        content = fetched(lambda c: send_reply(c, packed, f"Content-Encoding: {encoding}"))
        reason, detail = failure(content)
        assert reason is Reason.UNREADABLE
        assert why in detail

    def test_that_is_shorter_than_was_said_is_unreadable(self) -> None:
        content = fetched(lambda c: c.sendall(build_head("Content-Length: 1000") + b"ten bytes."))
        assert failure(content)[0] is Reason.UNREADABLE

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            ("404 Not Found", Reason.VANISHED),
            ("403 Forbidden", Reason.UNREADABLE),
            ("503 Service Unavailable", Reason.UNREADABLE),
        ],
    )
    def test_of_a_refusal_is_not_read(self, status: str, reason: Reason) -> None:
        content = fetched(lambda c: send_without_end(c, status=status))
        assert failure(content)[0] is reason

    @pytest.mark.parametrize("before", [0, 2 * download.MIN_BYTES])
    def test_that_comes_too_slowly_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch, before: int
    ) -> None:
        monkeypatch.setattr(download, "MIN_BYTES_SECONDS", 0.5)

        def trickle(connection: socket.socket) -> None:
            connection.sendall(build_head() + bytes(before))
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)

        started = time.monotonic()
        assert failure(fetched(trickle))[0] is Reason.UNREADABLE
        assert time.monotonic() - started < 3  # two attempts

    def test_that_stalls_is_waited_for_in_proportion_to_the_time_of_a_photo(
        self, tmp_path: Path
    ) -> None:
        def stall(connection: socket.socket, method: str, path: str) -> None:
            if method == "GET":
                connection.sendall(build_head("Content-Length: 10") + b"x")
                time.sleep(10)
            send_reply(connection, b"")

        model = str(save_model(bright_model(), tmp_path / "bright.onnx"))
        limits = batch.FileLimits(decode_timeout=1)
        options = batch.Options(model=model, provider=batch.Provider.CPU, file_limits=limits)
        with serve_http(stall) as server:
            started = time.monotonic()
            (row,) = batch.label(f"{server}/a.jpg", options)
            assert time.monotonic() - started < 8
        assert row.failure
        assert "less than 65,536 bytes in 2 s" in row.failure.detail

    def test_that_takes_long_but_goes_on_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "MIN_BYTES_SECONDS", 0.5)
        piece = bytes(download.MIN_BYTES)

        def send_slowly(connection: socket.socket) -> None:
            connection.sendall(build_head())
            for _ in range(10):
                connection.sendall(piece)
                time.sleep(0.1)

        assert fetched(send_slowly) == piece * 10


def test_many_bodies_without_an_end_take_no_more_memory_than_is_allowed_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "ASSUMED_BYTES", 100_000)
    number, most = fetching.MAX_FETCHES, 5 * MAX
    # Each fetcher has a piece of its file beside what was counted for it.
    with (
        serve_http(lambda c, *asked: send_without_end(c)) as server,
        limit_memory(most + number * len(MEGABYTE)),
    ):
        for item in Fetcher(most).prefetch([Url(f"{server}/{n}") for n in range(number)]):
            assert isinstance(item, FetchedFile)
            assert failure(item.content)[0] is Reason.TOO_LARGE


class TestARedirect:
    def test_into_a_circle_ends(self) -> None:
        asked: list[None] = []

        def redirect(connection: socket.socket) -> None:
            asked.append(None)
            connection.sendall(
                build_head("Location: /again", "Content-Length: 0", status="302 Found")
            )

        assert failure(fetched(redirect))[0] is Reason.UNREADABLE
        assert len(asked) <= 11

    @pytest.mark.parametrize("target", ["file://{}", "local://{}", "ftp://127.0.0.1/{}"])
    def test_to_this_machine_is_not_followed(self, tmp_path: Path, target: str) -> None:
        secret = tmp_path / "secret.jpg"
        secret.write_bytes(b"secret")
        location = f"Location: {target.format(secret)}"
        content = fetched(
            lambda c: c.sendall(build_head(location, "Content-Length: 0", status="302 Found"))
        )
        assert failure(content)[0] is Reason.UNREADABLE


@pytest.mark.parametrize(
    ("status", "reason"),
    [("404 Not Found", Reason.VANISHED), ("410 Gone", Reason.VANISHED),
     ("403 Forbidden", Reason.UNREADABLE), ("503 Unavailable", Reason.UNREADABLE)],
)  # fmt: skip
def test_only_what_is_gone_is_said_to_be(status: str, reason: Reason) -> None:
    with serve_http(
        lambda c, *asked: c.sendall(build_head("Content-Length: 0", status=status))
    ) as server:
        (found,) = list_urls([f"{server}/a.jpg"], Search(), lambda path, why: None)
    assert found.failure is not None
    assert found.failure.reason is reason


class TestAList:
    @pytest.mark.parametrize(
        "line",
        [
            "file://{}",
            "FILE://{}",
            "local://{}",
            "memory://{}",
            "zip://a.jpg::{}",
            "zip://a.jpg::file://{}",
            "zip://a.jpg::zip://b.zip::{}",
            "dir://a::https://server/a",
            "github://org:repo@main/a.jpg",
        ],
    )
    def test_names_nothing_on_this_machine(self, tmp_path: Path, line: str) -> None:
        text = f"b.jpg\n\n{line.format(tmp_path / 'a.jpg')}\n".encode()
        with serve_http(lambda c, *asked: send_reply(c, text)) as server:
            sound, refused = Discovery([f"{server}/list.txt"], Search())
        assert sound.path == f"{server}/b.jpg"
        assert refused.path == f"{server}/list.txt#3"
        assert refused.failure is not None
        assert refused.failure.reason is Reason.UNREADABLE
        assert "is not in an object store or on a web server" in refused.failure.detail

    def test_names_stores_servers_and_archives_there(self) -> None:
        lines = [
            "s3://bucket/a.jpg",
            "https://server/a.jpg",
            "zip://a.jpg::gs://bucket/a.zip",
            "tar://b/a.jpg::HTTP://server/a.tar",
            "https://server/a.jpg::/etc/passwd",
        ]
        relative = ["/a", "b::/etc/passwd", "12:30.jpg"]
        text = "\r\n".join(lines + relative).encode()
        with serve_http(lambda c, *asked: send_reply(c, text)) as server:
            listed = read_url_list(f"{server}/b/list.txt")
        there = [f"{server}/a", f"{server}/b/b::/etc/passwd", f"{server}/b/12:30.jpg"]
        assert listed == [(line, "") for line in lines + there]

    def test_without_an_end_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing, "MAX_LIST_BYTES", MAX)
        with (
            serve_http(lambda c, *asked: send_without_end(c)) as server,
            limit_memory(MAX),
            pytest.raises(InputError, match="has more than 2,097,152 bytes; split it"),
        ):
            read_url_list(f"{server}/list.txt")


def test_an_object_s_name_leads_to_no_file_of_this_machine(
    place: RunFolder, bucket: Bucket
) -> None:
    photo = next((place.folder / "photos").iterdir())
    bucket.write(f"photos/x::{photo}", b"x")
    bucket.write(f"photos/zip://a.jpg::{photo}", b"x")
    ran = place.run(bucket.url("photos"), "-o", REPORT)
    assert ran.returncode == 3, ran.stderr
    errors = [row["error"] for row in place.rows().values()]
    assert len(errors) == 2
    assert all(error.startswith("not_an_image:") for error in errors)
    ran = place.run(bucket.url("photos/x*/**/*.jpg"), "-o", REPORT)
    assert ran.returncode == 3, ran.stderr


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
def test_a_page_of_a_listing_without_an_end_is_not_held(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setattr(answers, "MAX_RESPONSE_BYTES", MAX)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION"):
        monkeypatch.setenv(f"AWS_{name}", "us-east-1")
    with serve_http(lambda c, *asked: send_without_end(c, status=status)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        s3fs.S3FileSystem.clear_instance_cache()
        store, path = open_store("s3://bucket/a")
        store.connect()  # loads what S3's client knows of all services
        with limit_memory(MAX), pytest.raises(answers.ResponseError, match="than 2,097,152 bytes"):
            list(_list_s3(store, path, recursive=True))
    s3fs.S3FileSystem.clear_instance_cache()
