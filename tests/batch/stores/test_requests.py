"""Requests to stores are retried after transient errors only."""

from __future__ import annotations

import pytest

from batch.stores import requests
from batch.stores.requests import MAX_ATTEMPTS, is_transient, retry
from batch.stores.store import open_store
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
    monkeypatch.setattr(requests, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("status", [500, 503, CUT_CONNECTION])
def test_a_request_that_fails_for_a_while_succeeds(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with run_failing_proxy(bucket.endpoint, fail_first(5, status, "PUT")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store, path = open_store(bucket.url("r.csv"))
        retry(lambda: store.pipe_file(path, b"rows"))
        assert len(proxy.asked) >= 6
    assert bucket.read("r.csv") == b"rows"


@pytest.mark.usefixtures("no_pause")
def test_retries_are_limited() -> None:
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        raise ConnectionResetError("reset by peer")

    with pytest.raises(ConnectionResetError):
        retry(call)
    assert len(calls) == MAX_ATTEMPTS


def test_a_permanent_error_is_not_retried(bucket: Bucket) -> None:
    store, path = open_store(bucket.url("nothing.csv"))
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        store.cat_file(path)

    with pytest.raises(FileNotFoundError):
        retry(call)
    assert len(calls) == 1


def test_a_refused_connection_is_transient(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store, path = open_store(bucket.url("r.csv"))
    with pytest.raises(Exception, match="Could not connect") as caught:
        store.cat_file(path)
    assert is_transient(caught.value)
