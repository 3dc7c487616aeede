"""Requests to stores are retried after transient errors only."""

from __future__ import annotations

from importlib import import_module
from typing import Any

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


# The code knows base classes of the clients' errors by name. A wrong name goes unnoticed, and an
# error of that kind is not retried.
@pytest.mark.parametrize(
    ("name", "details", "expected"),
    [
        ("aiohttp.ServerDisconnectedError", {}, True),
        ("aiohttp.ClientPayloadError", {}, True),
        ("botocore.exceptions.EndpointConnectionError", {"endpoint_url": "u"}, True),
        ("botocore.exceptions.ReadTimeoutError", {"endpoint_url": "u"}, True),
        ("botocore.exceptions.ResponseStreamingError", {"error": "cut"}, True),
        ("gcsfs.retry.HttpError", {"error_response": {"code": 503}}, True),
        ("gcsfs.retry.HttpError", {"error_response": {"message": "no status"}}, True),
        ("gcsfs.retry.HttpError", {"error_response": {"code": 400}}, False),
        (
            "aiohttp.ClientResponseError",
            {"request_info": None, "history": (), "status": 403},
            False,
        ),
        ("botocore.exceptions.NoCredentialsError", {}, False),
    ],
)
def test_errors_of_each_client_are_told_apart(
    name: str, details: dict[str, Any], expected: bool
) -> None:
    module, _, kind = name.rpartition(".")
    error = getattr(import_module(module), kind)(**details)
    assert is_transient(error) is expected


def test_errors_of_azure_are_left_to_its_client() -> None:
    from azure.core.exceptions import HttpResponseError

    error = HttpResponseError("busy")
    error.status_code = 503
    assert not is_transient(error)
