"""Paths and URLs are parsed, and secrets of URLs are neither shown nor stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from batch.discovery.discover import Discovery
from batch.location import (
    Url,
    build_member_url,
    hide_secrets,
    is_archive,
    parse_location,
    redact,
    restore_secrets,
    split_member,
    strip_secrets,
)
from batch.options import Search
from batch.stores.store import error_text
from tests.support.runs import REPORT, RunFolder, make_photos

AMAZON = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260104%2Fus-east-1%2Fs3"
    "%2Faws4_request&X-Amz-Date=20260104T010000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature={}"
)


@pytest.mark.parametrize(
    ("url", "public"),
    [
        (f"https://h/a.jpg?{AMAZON}", "https://h/a.jpg"),
        (f"https://h/a.jpg?versionId=3&{AMAZON}", "https://h/a.jpg?versionId=3"),
        ("https://h/a.jpg?AWSAccessKeyId=A&Expires=1&Signature=x%3D", "https://h/a.jpg"),
        ("https://h/a.jpg?Expires=1&Signature=x&Key-Pair-Id=K&Policy=p", "https://h/a.jpg"),
        ("https://h/c/a.jpg?sv=2022&se=2026-01-04&sr=b&sp=r&sig=x%3D", "https://h/c/a.jpg"),
        ("https://h/a?alt=media&token=x", "https://h/a?alt=media"),
        ("https://h/a?access_token=x&id=7", "https://h/a?id=7"),
        ("https://h/a?API-KEY=x#token=y", "https://h/a"),
        ("https://user:password@h/a.jpg", "https://h/a.jpg"),
        ("http://token@h:8080/a.jpg", "http://h:8080/a.jpg"),
        ("sftp://user:pass@word@h/a.jpg", "sftp://user@h/a.jpg"),
        (f"zip://in/a.jpg::https://h/p.zip?{AMAZON}", "zip://in/a.jpg::https://h/p.zip"),
        ("https://h/a?temp_url_sig=x&temp_url_expires=1&id=7", "https://h/a?id=7"),
        ("https://h/a?wsSecret=x&wsTime=1", "https://h/a"),
        ("https://h/a?X%2DAmz%2DSignature=x&id=7", "https://h/a?id=7"),
        ("https://h/a?id=7&amp;sig=x", "https://h/a?id=7"),
        ("https://h/a?sig=x;id=7&n=1", "https://h/a?id=7&n=1"),
        ("https://h/a.jpg;jsessionid=x?id=7", "https://h/a.jpg?id=7"),
        ("az://c/a.jpg?sv=2022&se=2026-01-04&sr=b&sp=r&sig=x%3D", "az://c/a.jpg"),
        (f"s3://b/a.jpg?{AMAZON}", "s3://b/a.jpg"),
        ("gs://b/a.jpg?X-Goog-Date=1&X-Goog-Signature=x", "gs://b/a.jpg"),
        ("simplecache::https://u:pw@h/a.jpg?sig=x", "simplecache::https://h/a.jpg"),
        # And what is no secret stays.
        ("https://h/a;v=1?key=p1&design=2&author=3", "https://h/a;v=1?key=p1&design=2&author=3"),
        ("https://h/a?x=1;y=2&amp;z=3", "https://h/a?x=1;y=2&amp;z=3"),
        ("az://c/a?b;token=c.jpg", "az://c/a?b;token=c.jpg"),
        ("https://h/a.jpg?id=7&expires=1&tokens=2", "https://h/a.jpg?id=7&expires=1&tokens=2"),
        ("https://h/a@b.jpg?x=@", "https://h/a@b.jpg?x=@"),
        ("abfs://container@account.host/a.jpg", "abfs://container@account.host/a.jpg"),
        ("s3://bucket/a?token=x.jpg", "s3://bucket/a?token=x.jpg"),
        ("photos/a@b?token=x.jpg", "photos/a@b?token=x.jpg"),
    ],
)
def test_secrets_are_not_part_of_a_name(url: str, public: str) -> None:
    assert strip_secrets(url) == strip_secrets(public) == public


@pytest.mark.parametrize(
    "name",
    [
        *("auth_key", "authkey", "sign", "txSecret", "secretKey", "tempauth", "rlkey", "hm"),
        *("__token__", "ticket", "sessionid", "bearer", "sas", "passcode", "passphrase", "hdntl"),
        *("awsSessionToken", "PHPSESSID", "x-auth", "client.secret", "apiKey", "urlSign"),
    ],
)
def test_parameters_that_grant_access_have_many_names(name: str) -> None:
    assert strip_secrets(f"https://h/a.jpg?id=7&{name}=x") == "https://h/a.jpg?id=7"


def test_secrets_of_chained_urls_are_not_in_paths_of_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("simplecache::https://u:hunter2@h/a.jpg\n")
    (found,) = Discovery(["list.txt"], Search())
    assert found.failure
    assert "hunter2" not in str(found)


def test_the_last_given_url_is_opened() -> None:
    for signature in ("one", "two"):
        url = f"zip://a.jpg::https://h/p.zip?sig={signature}"
        assert hide_secrets(url) == str(parse_location(url)) == "zip://a.jpg::https://h/p.zip"
        assert restore_secrets("https://h/p.zip") == f"https://h/p.zip?sig={signature}"


def test_messages_of_clients_have_no_secrets() -> None:
    text = "403, message='Forbidden', url='https://h/a.jpg?id=1&sig=abc', next: ftp://u:p@h/x, done"
    assert redact(text) == (
        "403, message='Forbidden', url='https://h/a.jpg?id=1', next: ftp://u@h/x, done"
    )
    assert "abc" not in error_text(OSError("https://h/a.jpg?sig=abc"))


@pytest.mark.parametrize(
    "archive",
    ["x::y.zip", ":::a.tar", "a:%3Ab.zip", "a:%253A::%3A.zip", "s3://b/k::1.zip", "d::/p.zip"],
)
@pytest.mark.parametrize("name", ["a.jpg", "a::b.jpg", "b:"])
def test_any_names_of_member_and_archive_are_told_apart(archive: str, name: str) -> None:
    assert is_archive(archive)
    found = split_member(build_member_url(archive, name))
    assert found is not None
    assert (str(parse_location(found[0])), found[1]) == (archive, name)


def test_a_colon_in_a_path_does_not_make_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    place = RunFolder(tmp_path)
    make_photos(tmp_path / "a::b", 2)
    shutil.make_archive(str(tmp_path / "p::q"), "zip", tmp_path, "a::b")
    (tmp_path / "list.txt").write_text(f"a::b/00000.jpg\nfile://{tmp_path}/a::b/00001.jpg\n")
    monkeypatch.chdir(tmp_path)
    for start in ("a::b", "a::*/*.jpg", "list.txt", "p::q.zip", f"file://{tmp_path}/a::b"):
        assert [file.failure for file in Discovery([start], Search())] == [None] * 2, start
    listed = "zip://a::b/00000.jpg::p:%3Aq.zip"
    (tmp_path / "list.txt").write_text(f"{listed}\na::b/00001.jpg")
    ran = place.run("list.txt", "-o", "r::s.csv")
    assert ran.returncode == 0, ran.stderr
    report = (tmp_path / "r::s.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in report] == ["path", listed, "a::b/00001.jpg"]


@contextmanager
def signing(folder: Path, signature: str) -> Iterator[str]:
    """Serve a folder for requests whose query has the signature."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if f"Signature={signature}" not in query:
                self.send_error(403)
                return
            if not (folder / path.lstrip("/")).exists():
                self.send_error(404)
                return
            data = (folder / path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{len(data)}"')
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_signatures_are_written_nowhere_and_the_next_run_knows_the_photos(
    tmp_path: Path,
) -> None:
    pytest.importorskip("aiohttp")
    import shutil

    place = RunFolder(tmp_path)
    (tmp_path / "served").mkdir()
    photos = make_photos(tmp_path / "served" / "photos", 3)
    shutil.make_archive(str(tmp_path / "served" / "p"), "zip", photos)
    secret = "c0ffee"
    with signing(tmp_path / "served", secret) as server:
        for night in (1, 2):
            query = AMAZON.format(secret).replace("Date=2026", f"Date={night}026")
            names = [f"photos/{n:05}.jpg" for n in range(3)] + ["photos/gone.jpg", "p.zip"]
            lines = [f"http://key:{secret}@{server}/{name}?{query}" for name in names]
            refused = lines[0].replace(f"Signature={secret}", f"Signature=x{secret}")
            (tmp_path / "list.txt").write_text(
                "\n".join([*lines, refused.replace("00000", "refused"), lines[0] + "&token=2"])
            )
            ran = place.run("list.txt", "-o", REPORT, "--archives", "--metrics-file", "m.prom")
            assert ran.returncode == 3, ran.stderr
            assert "1 same URL with another signature" in ran.stderr
            assert secret not in ran.stderr
            (tmp_path / "list.txt").unlink()
        assert (place.counts()["labelled_now"], place.counts()["reused"]) == (2, 6)
        rows = place.rows()
        assert sorted(path for path, row in rows.items() if not row["error"]) == [
            *(f"http://{server}/photos/0000{n}.jpg" for n in range(3)),
            *(f"zip://0000{n}.jpg::http://{server}/p.zip" for n in range(3)),
        ]
        assert rows[f"http://{server}/photos/refused.jpg"]["error"].startswith("unreadable: 403")
        twice = place.run(lines[0], f"{lines[0]}&ticket=2", "-o", "twice.csv")
        assert twice.returncode == 0, twice.stderr
        assert "1 same URL with another signature" in twice.stderr
        member = f"zip://00000.jpg::{lines[4]}"
        for inputs in ((member, lines[4]), (lines[4], member)):
            assert place.run(*inputs, "-o", "once.csv").returncode == 0
            assert len((tmp_path / "once.csv").read_text().splitlines()) == 1 + 3
        single = lines[0].replace("key:", "k:")
        assert place.command("manifest", single, "-o", "m.parquet").returncode == 0
        missing = place.run(single.replace("00000", "none"), "-o", REPORT)
        assert missing.returncode == 2
        assert secret not in missing.stderr
    kept = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {REPORT, ".r.csv.journal", "r.csv.run.json", "m.parquet", "m.prom"} <= {
        path.name for path in kept
    }
    assert not [path.name for path in kept if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("archive", ["a.zip", "/data/b c.TAR", "s3://bucket/x/a.tar"])
@pytest.mark.parametrize("name", ["a.jpg", "in/ner/a b.jpg", "/../a::b.jpg"])
def test_the_name_of_a_member_can_be_taken_apart(archive: str, name: str) -> None:
    assert is_archive(archive)
    assert split_member(build_member_url(archive, name)) == (archive, name)


def test_other_urls_are_no_members() -> None:
    assert split_member("s3://bucket/a::b.jpg") is None
    assert split_member("zip://a.jpg") is None
    assert Url("zip://x/a.jpg::s3://bucket/b.zip").name == "a.jpg"
