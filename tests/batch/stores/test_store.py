from __future__ import annotations

import subprocess
import sys

import pytest

from batch.errors import InputError, OutputError, UsageError
from batch.stores import requests as retrying
from batch.stores.requests import MAX_ATTEMPTS, is_transient, retry
from batch.stores.store import open_store, translate_store_errors
from tests.conftest import REPOSITORY
from tests.support.object_store import (
    CUT_CONNECTION,
    Bucket,
    bucket,
    fail_first,
    run_failing_proxy,
    s3_server,
)

__all__ = ["bucket", "s3_server"]  # fixtures


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.001)


def test_a_store_and_the_path_in_it(bucket: Bucket) -> None:
    bucket.write("a/r.csv", b"rows")
    store, path = open_store(bucket.url("a/r.csv"))
    assert path == f"{bucket.name}/a/r.csv"
    assert store.cat_file(path) == b"rows"


def test_a_store_never_says_what_was(bucket: Bucket) -> None:
    store, path = open_store(bucket.url("a"))
    bucket.write("a/1", b"1")
    assert store.ls(path) == [f"{path}/1"]
    bucket.write("a/2", b"2")
    assert store.ls(path) == [f"{path}/1", f"{path}/2"]


@pytest.mark.parametrize("url", ["nowhere://a/b.csv", "nowhere://a/b::c.csv"])
def test_an_unknown_scheme_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"can't be opened \(Protocol not known: nowhere\)"):
        open_store(url)


@pytest.mark.parametrize(
    ("package", "scheme", "extra"),
    [("s3fs", "s3", "s3"), ("gcsfs", "gs", "gcs"), ("adlfs", "az", "azure")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    package: str, scheme: str, extra: str
) -> None:
    code = f"""
import sys
sys.modules["{package}"] = None
from batch.errors import UsageError
from batch.stores.store import open_store
try:
    open_store("{scheme}://bucket/r.csv")
except UsageError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith(f"{scheme}://bucket/r.csv needs a package that is not installed")
    assert ran.stdout.endswith(f"; run: pip install 'batch-label[{extra}]'\n")


def test_a_missing_bucket_is_told_with_a_remedy(bucket: Bucket) -> None:
    store, path = open_store("s3://no-such-bucket/r.csv")
    with (
        pytest.raises(OutputError, match=r"^r can't be written \(.*bucket.*\); check the spelling"),
        translate_store_errors("r can't be written", OutputError, "try again"),
    ):
        store.pipe_file(path, b"")


def test_missing_credentials_are_told_with_a_remedy(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store, path = open_store(bucket.url("r.csv"))
    with (
        pytest.raises(InputError, match="set the store's credentials"),
        translate_store_errors("r can't be read", InputError, "try again"),
    ):
        store.cat_file(path)


def test_the_program_s_own_errors_pass() -> None:
    own = UsageError("a", "b")
    with pytest.raises(UsageError) as caught, translate_store_errors("r", OutputError, "try again"):
        raise own
    assert caught.value is own


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("status", [500, 503, CUT_CONNECTION])
def test_what_fails_for_a_while_is_done_in_the_end(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with run_failing_proxy(bucket.endpoint, fail_first(5, status, "PUT")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store, path = open_store(bucket.url("r.csv"))
        retry(lambda: store.pipe_file(path, b"rows"))
        assert len(proxy.asked) >= 6
    assert bucket.read("r.csv") == b"rows"


@pytest.mark.usefixtures("no_pause")
def test_what_always_fails_is_given_up() -> None:
    asked: list[None] = []

    def call() -> None:
        asked.append(None)
        raise ConnectionResetError("reset by peer")

    with pytest.raises(ConnectionResetError):
        retry(call)
    assert len(asked) == MAX_ATTEMPTS


def test_what_is_final_is_asked_once(bucket: Bucket) -> None:
    store, path = open_store(bucket.url("nothing.csv"))
    asked: list[None] = []

    def call() -> None:
        asked.append(None)
        store.cat_file(path)

    with pytest.raises(FileNotFoundError):
        retry(call)
    assert len(asked) == 1


def test_a_server_that_is_not_there_passes_by_itself(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store, path = open_store(bucket.url("r.csv"))
    with pytest.raises(Exception, match="Could not connect") as caught:
        store.cat_file(path)
    assert is_transient(caught.value)
