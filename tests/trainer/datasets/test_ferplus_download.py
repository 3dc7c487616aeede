from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.trainer_data import FERPLUS_ROWS, find_real_data, write_ferplus
from trainer.datasets.ferplus import FERPLUS_LABELS, load_ferplus, read_ferplus
from trainer.datasets.ferplus_download import (
    FERPLUS_FOLDER,
    PUBLISHED_DIGESTS,
    DownloadError,
    RetryPolicy,
    SplitDigest,
    digest_split,
    download,
    obtain_ferplus,
    unpack_archive,
)

QUICK = RetryPolicy(timeout=5, attempts=3, pause=0.01)
REMEDY = "do it by hand"


@dataclass
class Site:
    """State and planned failures of a web server; ``requests`` has the received Range headers."""

    body: bytes = b""
    etag: str = '"1"'
    ranges: bool = True
    cut_after: int | None = None  # bytes of the first answer
    statuses: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.requests.append(wanted)
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        start = 0
        if wanted and site.ranges and self.headers.get("If-Range") == site.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(site.body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(site.body) - start))
        if site.etag:
            self.send_header("ETag", site.etag)
        self.end_headers()
        end = None if site.cut_after is None else start + site.cut_after
        site.cut_after = None
        self.wfile.write(site.body[start:end])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(body=bytes(range(256)) * 2000)
    handler = type("SiteHandler", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}/archive.zip"
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """An archive with a small FER+ and other files, like that of the repository."""
    write_ferplus(tmp_path / "made" / "repository-1" / "data", FERPLUS_ROWS)
    (tmp_path / "made" / "repository-1" / "program.py").write_text("not wanted")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "made")
    return Path(archive)


def digest_all(archive: Path) -> dict[str, SplitDigest]:
    return {split: digest_split(faces) for split, faces in read_ferplus(archive).items()}


def test_a_complete_download_leaves_one_file(site: Site, tmp_path: Path) -> None:
    download(site.url, tmp_path / "file", REMEDY, QUICK)
    assert (tmp_path / "file").read_bytes() == site.body
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_download_is_resumed(site: Site, tmp_path: Path) -> None:
    site.cut_after = 100_000
    download(site.url, tmp_path / "file", REMEDY, QUICK)
    assert (tmp_path / "file").read_bytes() == site.body
    assert site.requests == [None, "bytes=100000-"]


def test_another_call_resumes_too(site: Site, tmp_path: Path) -> None:
    site.cut_after = 300_000
    once = RetryPolicy(timeout=5, attempts=1)
    with pytest.raises(
        DownloadError, match=r"connection closed after 300,000 of 512,000 bytes.*; do it by"
    ):
        download(site.url, tmp_path / "file", REMEDY, once)
    assert not (tmp_path / "file").exists()
    download(site.url, tmp_path / "file", REMEDY, once)
    assert (tmp_path / "file").read_bytes() == site.body
    assert site.requests == [None, "bytes=300000-"]


def test_a_download_without_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cut_after = False, 100_000
    download(site.url, tmp_path / "file", REMEDY, QUICK)
    assert (tmp_path / "file").read_bytes() == site.body


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_a_strong_etag_nothing_is_resumed(site: Site, tmp_path: Path, etag: str) -> None:
    site.etag, site.cut_after = etag, 100_000
    download(site.url, tmp_path / "file", REMEDY, QUICK)
    assert (tmp_path / "file").read_bytes() == site.body
    assert site.requests == [None, None]


def test_a_changed_file_is_downloaded_again(site: Site, tmp_path: Path) -> None:
    site.cut_after = 100_000
    with pytest.raises(DownloadError):
        download(site.url, tmp_path / "file", REMEDY, RetryPolicy(timeout=5, attempts=1))
    site.body, site.etag = b"new" * 50_000, '"2"'
    download(site.url, tmp_path / "file", REMEDY, QUICK)
    assert (tmp_path / "file").read_bytes() == site.body
    assert site.requests == [None, "bytes=100000-"]


def test_a_partial_file_as_long_as_the_whole_is_downloaded_again(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "file.part").write_bytes(b"x" * len(site.body))
    (tmp_path / "file.etag").write_text(site.etag)
    download(site.url, tmp_path / "file", REMEDY, QUICK)
    assert (tmp_path / "file").read_bytes() == site.body


def test_a_transient_status_is_retried_and_a_missing_file_is_not(
    site: Site, tmp_path: Path
) -> None:
    site.statuses = [503, 429]
    download(site.url, tmp_path / "file", REMEDY, QUICK)
    assert len(site.requests) == 3
    site.statuses = [404]
    with pytest.raises(DownloadError, match="HTTP status 404"):
        download(site.url, tmp_path / "other", REMEDY, QUICK)
    assert len(site.requests) == 4


@pytest.mark.parametrize(
    ("url", "why"),
    [("http://127.0.0.1:9/x", "refused"), ("file:///etc/hosts", "not an http or https address")],
)
def test_the_error_without_a_server_has_the_remedy(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(DownloadError, match=f"{why}.*; {REMEDY}") as raised:
        download(url, tmp_path / "file", REMEDY, QUICK)
    assert raised.value.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_ferplus_is_downloaded_once_and_then_checked(
    site: Site, packed: Path, tmp_path: Path
) -> None:
    site.body = packed.read_bytes()
    home = tmp_path / "data" / "ferplus"
    obtain_ferplus(home, site.url, digest_all(packed), QUICK)
    assert load_ferplus(home).fingerprint == load_ferplus(packed).fingerprint
    names = sorted(path.relative_to(home).as_posix() for path in home.rglob("*.*"))
    assert len(names) == 3 + 7
    assert [path.name for path in home.parent.iterdir()] == ["ferplus"]
    obtain_ferplus(home, site.url, digest_all(packed), QUICK)
    assert len(site.requests) == 1


def test_other_files_beside_ferplus_are_kept(site: Site, packed: Path, tmp_path: Path) -> None:
    site.body = packed.read_bytes()
    home = tmp_path / "ferplus"
    mine = [tmp_path / ".ferplus.zip", tmp_path / ".ferplus.unpacked" / "photo.jpg"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    obtain_ferplus(home, site.url, digest_all(packed), QUICK)
    assert [path.read_bytes() for path in mine] == [b"mine", b"mine"]


@pytest.mark.parametrize("change", ["pixels", "votes", "missing"])
def test_other_content_is_refused(site: Site, packed: Path, tmp_path: Path, change: str) -> None:
    wanted = digest_all(packed)
    part = tmp_path / "made" / "repository-1" / "data" / "FER2013Train"
    table = (part / "label.csv").read_text().splitlines(keepends=True)
    if change == "pixels":
        shutil.copy(part / "fer0000000.png", part / "fer0000001.png")
    elif change == "votes":
        (part / "label.csv").write_text("".join(table).replace("9,1,", "8,2,", 1))
    else:
        (part / "label.csv").write_text("".join(table[1:]))
    site.body = Path(
        shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "made")
    ).read_bytes()
    home = tmp_path / "data" / "ferplus"
    said = {
        "pixels": "other pictures than FER",
        "votes": "other votes than FER",
        "missing": "3 faces, not 4",
    }
    with pytest.raises(DownloadError, match=f"FER2013Train has {said[change]}"):
        obtain_ferplus(home, site.url, wanted, QUICK)
    assert not list(home.parent.iterdir())


def test_a_digest_does_not_depend_on_order_or_packing(packed: Path, tmp_path: Path) -> None:
    root = tmp_path / "made" / "repository-1" / "data"
    wanted = digest_all(packed)
    for table in root.glob("*/label.csv"):
        lines = table.read_text().splitlines()
        table.write_bytes("\r\n".join(reversed(lines)).encode())
    assert {split: digest_split(faces) for split, faces in read_ferplus(root).items()} == wanted


@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_truncated_archive_is_refused_and_removed(
    site: Site, packed: Path, tmp_path: Path, share: float
) -> None:
    body = packed.read_bytes()
    site.body = body[: int(len(body) * share)]
    home = tmp_path / "data" / "ferplus"
    with pytest.raises(DownloadError, match=r"archive of FER.* is damaged"):
        obtain_ferplus(home, site.url, digest_all(packed), QUICK)
    assert not list(home.parent.iterdir())


def test_no_entry_of_an_archive_is_written_outside_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as evil:
        for name in (
            "../../escaped.txt",
            "/FER2013Train/../../escaped.txt",
            "FER2013Train/..",
            "../FER2013Test/fer0000001.png",
            "FER2013Train/..\\..\\escaped.txt",
        ):
            evil.writestr(name, b"evil")
    unpack_archive(archive, tmp_path / "inside" / "folder")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]
    assert files == [tmp_path / "inside" / "folder" / "FER2013Test" / "fer0000001.png"]


def test_an_entry_larger_than_any_of_ferplus_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("FER2013Train/label.csv", bytes(9 << 20))
    with pytest.raises(DownloadError, match=r"label\.csv has 9,437,184 bytes"):
        unpack_archive(archive, tmp_path / "inside")


def test_an_existing_folder_is_never_changed(site: Site, packed: Path, tmp_path: Path) -> None:
    home = tmp_path / "ferplus"
    home.mkdir()
    (home / "notes.txt").write_text("mine")
    with pytest.raises(DownloadError, match=r"ferplus is not FER.*move it away"):
        obtain_ferplus(home, site.url, digest_all(packed), QUICK)
    assert (home / "notes.txt").read_text() == "mine"
    assert not site.requests


def test_the_real_ferplus_is_what_is_published() -> None:
    assert digest_all(find_real_data("ferplus.zip")) == PUBLISHED_DIGESTS
    assert sum(part.faces for part in PUBLISHED_DIGESTS.values()) == 35_710


def test_digests_are_over_the_documented_bytes(packed: Path) -> None:
    faces = read_ferplus(packed)["validation"]
    assert len(faces.counts[0]) == len(FERPLUS_LABELS) + 2
    line = b"fer0000000.png,0,9,1,0,0,0,0,0,0,0\n"
    pixels = b"fer0000000.png" + faces.pixels[0].tobytes()
    assert digest_split(faces) == SplitDigest(
        1, hashlib.sha256(line).hexdigest(), hashlib.sha256(pixels).hexdigest()
    )


def test_the_command_downloads_and_checks(site: Site, packed: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from trainer.cli.main import cli

    assert {option.name: option.default for option in cli.commands["data"].params}[
        "home"
    ] == FERPLUS_FOLDER
    site.body = packed.read_bytes()
    result = CliRunner().invoke(cli, ["data", "--to", str(tmp_path / "there"), "--url", site.url])
    assert result.exit_code == 1
    assert "FER2013Train has 4 faces, not 28,558; get https://github.com/" in result.stderr
    assert not (tmp_path / "there").exists()
