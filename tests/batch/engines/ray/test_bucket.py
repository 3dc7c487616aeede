"""A Ray cluster labels a bucket whose server fails, and whose actors die."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

from bench.memory import list_process_tree
from tests.support.object_store import CUT_CONNECTION, Bucket, bucket, run_failing_proxy, s3_server
from tests.support.ray_cluster import ACTOR
from tests.support.runs import REPORT, RunFolder, make_photos, wait_for, wait_for_end

__all__ = ["bucket", "s3_server"]

PHOTOS = 300
GONE = f"{PHOTOS - 1:05}.jpg"


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_nothing_is_lost_or_doubled_whatever_fails(tmp_path: Path, bucket: Bucket) -> None:
    place = RunFolder(tmp_path)
    photos = make_photos(tmp_path / "photos", PHOTOS)
    for photo in sorted(photos.iterdir()):
        bucket.write(f"photos/{photo.name}", photo.read_bytes())
    place.label()
    due = place.report.read_text().replace("photos/", bucket.url("photos/")).splitlines()
    place.report.unlink()
    place.journal.unlink()

    fetched: list[str] = []
    numbers = count()

    def fails(method: str, path: str) -> int | None:
        """Delete one object once others are fetched, and fail one request in ten."""
        if method == "GET" and path.endswith(".jpg"):
            fetched.append(path)
            if len(fetched) == 5:
                bucket.store.rm_file(f"{bucket.name}/photos/{GONE}")
        number = next(numbers)
        return (500, 503, CUT_CONNECTION)[number // 10 % 3] if number % 10 == 9 else None

    # An actor fetches before it labels, so all that the bucket holds passes by the proxy.
    with run_failing_proxy(bucket.endpoint, fails) as proxy:
        process = place.start(
            *(bucket.url("photos"), "-o", REPORT, "--engine", "ray", "--actors", "1"),
            AWS_ENDPOINT_URL=proxy.endpoint,
        )
        wait_for(lambda: len(fetched) > 80, process)
        os.kill(_actor(process.pid), signal.SIGKILL)
        ran = wait_for_end(process)
    assert ran.returncode == 3, ran.stderr
    lines = place.report.read_text().splitlines()
    assert lines[:-1] == due[:-1]
    assert lines[-1].startswith(f"{bucket.url(f'photos/{GONE}')},failed,")
    assert '"vanished:' in lines[-1] or ",vanished:" in lines[-1]
    assert len(proxy.asked) > PHOTOS
    assert place.counts()["found"] == PHOTOS


def _actor(run: int) -> int:
    """Number the process of an actor on the cluster that a run has started."""
    found = [
        process
        for process in list_process_tree(run)
        if Path(f"/proc/{process}/cmdline").read_bytes().startswith(ACTOR)
    ]
    return found[0]
