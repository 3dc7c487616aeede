"""S3 server on loopback (moto), and a proxy that makes its requests fail.

Test modules import the fixtures: ``from tests.support.object_store import bucket, s3_server``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

HOST = "127.0.0.1"
TIMEOUT = 60.0  # seconds
_NUMBERS = count(1)
CUT_CONNECTION = 0  # in place of a status: close the connection without a reply


class BucketObjects(ABC):
    """The objects of a bucket.

    Attributes:
        scheme: the scheme of their URLs.
        name: the name of the bucket.
    """

    scheme: str
    name: str

    @property
    @abstractmethod
    def store(self) -> Any:
        """An fsspec store in this process."""

    def url(self, key: str = "") -> str:
        return f"{self.scheme}://{self.name}/{key}"

    def keys(self) -> set[str]:
        """List the keys of all objects."""
        return {name.removeprefix(f"{self.name}/") for name in self.store.find(self.name)}

    def read(self, key: str) -> bytes:
        data: bytes = self.store.cat_file(f"{self.name}/{key}")
        return data

    def write(self, key: str, data: bytes) -> None:
        self.store.pipe_file(f"{self.name}/{key}", data)


@dataclass(frozen=True)
class Bucket(BucketObjects):
    """A bucket of the server.

    Attributes:
        name: the name of the bucket.
        endpoint: the URL of the server.
    """

    scheme = "s3"
    name: str
    endpoint: str

    @property
    def store(self) -> Any:
        """An fsspec store in this process, which bypasses any proxy."""
        import s3fs

        return s3fs.S3FileSystem(endpoint_url=self.endpoint, use_listings_cache=False)

    def unfinished(self) -> list[str]:
        """List the keys of multipart uploads that were neither completed nor aborted."""
        listed = self.store.call_s3("list_multipart_uploads", Bucket=self.name)
        return [upload["Key"] for upload in listed.get("Uploads", ())]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an S3 server, a process of its own."""
    if missing := find_missing_s3_package():
        pytest.skip(f"{missing} is not installed")
    with serve_s3(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


def find_missing_s3_package() -> str | None:
    """Return the name of a package that S3 tests need and that is missing, or None."""
    return next((name for name in ("moto", "flask", "s3fs") if find_spec(name) is None), None)


@contextmanager
def serve_s3(folder: Path) -> Iterator[str]:
    """Serve S3 while the block runs, with a log in ``folder``; yield the endpoint."""
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_until_served(port, server, log)
        yield f"http://{HOST}:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, which child processes can use too through environment variables."""
    import s3fs

    home = tmp_path / "home"  # without the user's credentials
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    own = {"HOME": str(home), "XDG_STATE_HOME": str(tmp_path / "state")}
    for name, value in (own | s3_environment(s3_server)).items():
        monkeypatch.setenv(name, value)
    # fsspec caches stores by their options, which do not include the environment.
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = Bucket(f"bucket-{next(_NUMBERS)}", s3_server)
    bucket.store.mkdir(bucket.name)
    yield bucket
    s3fs.S3FileSystem.clear_instance_cache()


def s3_environment(endpoint: str) -> dict[str, str]:
    """Return the environment variables with which a process uses an S3 server."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_MAX_ATTEMPTS": "2",  # of the client, which retries by itself
    }


@dataclass
class FailingProxy:
    """The state of a proxy.

    Attributes:
        endpoint: the URL of the proxy.
        fails: returns the HTTP status of the reply to a request (method, path), or
            ``CUT_CONNECTION``; None to pass the request on.
        asked: the requests so far.
    """

    endpoint: str
    fails: Callable[[str, str], int | None]
    asked: list[tuple[str, str]] = field(default_factory=list)


def fail_first(number: int, status: int, method: str = "") -> Callable[[str, str], int | None]:
    """Make the first ``number`` requests fail, or the first ones with a method."""
    left = [number]

    def fails(asked: str, path: str) -> int | None:
        if left[0] == 0 or method not in ("", asked):
            return None
        left[0] -= 1
        return status

    return fails


@contextmanager
def run_failing_proxy(
    server: str, fails: Callable[[str, str], int | None]
) -> Iterator[FailingProxy]:
    """Run a proxy that makes requests to a server fail."""
    state = FailingProxy("", fails)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            state.asked.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = state.fails(self.command, self.path)
            if status is None:
                self._pass_on(body)
                return
            self.close_connection = True
            if status == CUT_CONNECTION:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _pass_on(self, body: bytes) -> None:
            behind = HTTPConnection(server.removeprefix("http://"), timeout=TIMEOUT)
            try:
                behind.request(self.command, self.path, body or None, dict(self.headers))
                answer = behind.getresponse()
                data = answer.read()
            finally:
                behind.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "server", "date", "transfer-encoding"):
                    self.send_header(name, value)
            if answer.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer((HOST, 0), Handler) as proxy:
        proxy.daemon_threads = True
        state.endpoint = f"http://{HOST}:{proxy.server_port}"
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            proxy.shutdown()
            thread.join()


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port


def wait_until_served(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server accepts connections; its log is shown if it ends or times out."""
    give_up = time.monotonic() + TIMEOUT
    while True:
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)
