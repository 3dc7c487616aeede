"""Stores are opened by URL, and their errors become errors of this program."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from batch.errors import InputError, OutputError, UsageError
from batch.stores.store import open_store, translate_store_errors
from tests.conftest import REPOSITORY
from tests.support.object_store import Bucket, bucket, s3_server

__all__ = ["bucket", "s3_server"]  # fixtures


def test_a_store_and_the_path_in_it(bucket: Bucket) -> None:
    bucket.write("a/r.csv", b"rows")
    store, path = open_store(bucket.url("a/r.csv"))
    assert path == f"{bucket.name}/a/r.csv"
    assert store.cat_file(path) == b"rows"


def test_a_store_does_not_cache_listings(bucket: Bucket) -> None:
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


def test_a_missing_bucket_has_a_remedy(bucket: Bucket) -> None:
    store, path = open_store("s3://no-such-bucket/r.csv")
    with (
        pytest.raises(OutputError, match=r"^r can't be written \(.*bucket.*\); check the spelling"),
        translate_store_errors("r can't be written", OutputError, "try again"),
    ):
        store.pipe_file(path, b"")


def test_missing_credentials_have_a_remedy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store, path = open_store(bucket.url("r.csv"))
    with (
        pytest.raises(InputError, match="set the store's credentials"),
        translate_store_errors("r can't be read", InputError, "try again"),
    ):
        store.cat_file(path)


@pytest.mark.parametrize(
    ("name", "details"),
    [
        ("botocore.exceptions.NoCredentialsError", {}),
        ("botocore.exceptions.PartialCredentialsError", {"provider": "env", "cred_var": "a"}),
        ("botocore.exceptions.ProfileNotFound", {"profile": "a"}),
        ("google.auth.exceptions.DefaultCredentialsError", {}),
    ],
)
def test_missing_credentials_of_each_client_have_a_remedy(
    name: str, details: dict[str, Any]
) -> None:
    """The classes are known by their names, as the clients are extras."""
    module, _, kind = name.rpartition(".")
    error = getattr(import_module(module), kind)(**details)
    with (
        pytest.raises(InputError, match="set the store's credentials"),
        translate_store_errors("r can't be read", InputError, "try again"),
    ):
        raise error


def test_the_program_s_own_errors_pass() -> None:
    own = UsageError("a", "b")
    with pytest.raises(UsageError) as caught, translate_store_errors("r", OutputError, "try again"):
        raise own
    assert caught.value is own
