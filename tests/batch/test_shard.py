"""A shard always has the same files, and its run changes no others."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.errors import UsageError
from batch.found import FoundFile
from batch.shard import MAX_SHARDS, ListingDigest, Shard, ShardedFiles, parse_shard
from tests.conftest import REPOSITORY
from tests.support.runs import BASE_ARGUMENTS, REPORT, RunFolder, make_photos, unprivileged_prefix

NUMBER = 30


# Reports that are merged may be years and releases apart: these must never change.
@pytest.mark.parametrize(
    ("path", "of_3", "of_16", "of_1000"),
    [
        (b"photos/a.jpg", 2, 2, 178),
        ("photos/sub/größe.png".encode(), 2, 11, 787),
        (b"s3://bucket/2024/0001.jpg", 3, 11, 643),
        (b"photos/\xff.jpg", 3, 2, 378),
    ],
)
def test_the_shard_of_a_path_never_changes(
    path: bytes, of_3: int, of_16: int, of_1000: int
) -> None:
    for number, of in ((of_3, 3), (of_16, 16), (of_1000, 1000)):
        assert Shard(number, of).contains(path)


def test_every_file_is_in_one_shard_and_shards_are_alike() -> None:
    paths = [f"photos/{n}.jpg".encode() for n in range(10_000)]
    shards = [Shard(number, 16) for number in range(1, 17)]
    held = Counter(shard.number for path in paths for shard in shards if shard.contains(path))
    assert held.total() == len(paths)
    assert all(500 < count < 750 for count in held.values())


@pytest.mark.parametrize("text", ["1/1", "3/16", "16/16", f"1/{MAX_SHARDS}", "03/16"])
def test_shards_are_parsed(text: str) -> None:
    assert str(parse_shard(text)) == text.removeprefix("0")


@pytest.mark.parametrize(
    "text", ["", "3", "0/16", "17/16", "-1/2", "1/0", "1/2/3", "1 / 2", "²/3", f"1/{MAX_SHARDS}0"]
)
def test_text_that_is_not_a_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard .* such as 3/16"):
        parse_shard(text)


def test_positions_are_those_among_all_files() -> None:
    files = [FoundFile(f"{n}.jpg", n) for n in range(100)]
    shards = [ShardedFiles(files, Shard(number, 3)) for number in (1, 2, 3)]
    found = [list(shard) for shard in shards]
    for part in found:
        assert part == sorted(part, key=lambda file: file.position or 0)
    together = sorted((file for part in found for file in part), key=lambda f: f.position or 0)
    assert [file.position for file in together] == list(range(1, 101))
    assert [file._replace(position=None) for file in together] == files
    records = [shard.record for shard in shards]
    assert all(record and record.found == 100 for record in records)
    assert len({record.listing for record in records if record}) == 1


def test_the_digest_of_a_listing_detects_any_change() -> None:
    def digest(*paths: bytes) -> str:
        listing = ListingDigest()
        for path in paths:
            listing.add(path)
        return listing.hexdigest()

    listings = [(), (b"a", b"b"), (b"b", b"a"), (b"ab",), (b"a",), (b"a", b"b", b"")]
    assert len({digest(*listing) for listing in listings}) == len(listings)


def test_a_listing_that_was_cut_short_has_no_record() -> None:
    sharded = ShardedFiles([FoundFile("a.jpg"), FoundFile("b.jpg")], Shard(1, 1))
    first: Iterator[FoundFile] = iter(sharded)
    next(first)
    assert sharded.record is None
    assert len(list(sharded)) == 2
    assert sharded.record is not None


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", NUMBER)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    return RunFolder(tmp_path)


def _by_position(place: RunFolder, name: str) -> dict[int, str]:
    return {int(row["position"]): path for path, row in place.rows(name).items()}


def test_shards_run_by_themselves_are_the_whole(place: RunFolder) -> None:
    whole = list(place.rows(REPORT)) if place.label() else []
    together: dict[int, str] = {}
    for number in (1, 2, 3):
        ran = place.run("photos", "-o", f"{number}.csv", "--shard", f"{number}/3")
        assert ran.returncode in (0, 3), ran.stderr
        part = _by_position(place, f"{number}.csv")
        assert f"{len(part)} photos found in shard {number}/3 of {NUMBER + 1}" in ran.stderr
        assert f"{len(part)} found = " in ran.stderr
        record = json.loads((place.folder / f"{number}.csv.run.json").read_bytes())
        assert record["settings"]["shard"] == f"{number}/3"
        assert record["counts"]["found"] == len(part)
        assert record["shard"]["found"] == NUMBER + 1
        together |= part
    assert [together[position] for position in range(1, NUMBER + 2)] == whole


def test_a_stream_has_the_positions_too(place: RunFolder) -> None:
    place.run("photos", "-o", "2.csv", "--shard", "2/3")
    streamed = place.run("photos", "--shard", "2/3", "--workers", "2")
    assert streamed.stdout == (place.folder / "2.csv").read_text(encoding="utf-8")
    assert next(csv.reader(io.StringIO(streamed.stdout)))[-1] == "position"


def test_a_dry_run_lists_the_shard(place: RunFolder) -> None:
    listed = [place.run("photos", "--dry-run", "--shard", f"{n}/2").stdout for n in (1, 2)]
    whole = place.run("photos", "--dry-run").stdout
    assert sorted("".join(listed).splitlines()) == whole.splitlines()


def test_another_shard_labels_nothing_that_is_known_and_forgets_nothing(place: RunFolder) -> None:
    place.label()
    for shard in ("1/3", "2/3", "3/3", "1/2"):
        assert place.label("--shard", shard)["labelled_now"] == 1 * _holds_broken(shard)
    (place.folder / "photos" / "00000.jpg").unlink()
    place.label("--shard", _shard_of("photos/00000.jpg", 2))
    counts = place.label()
    assert (counts["labelled_now"], counts["reused"]) == (1, NUMBER - 1)


def test_rows_of_missing_files_are_kept_by_their_own_shard(place: RunFolder) -> None:
    gone = "photos/00000.jpg"
    mine = _shard_of(gone, 2)
    other = f"{3 - int(mine[0])}/2"
    place.label()
    (place.folder / gone).unlink()
    assert place.label("--shard", other, "--keep-missing")["missing"] == 0
    assert place.label("--shard", mine, "--keep-missing")["missing"] == 1
    *_, (path, row) = place.rows().items()
    assert (path, row["position"]) == (gone, "")


def test_a_folder_that_cannot_be_read_makes_no_shard_forget(place: RunFolder) -> None:
    make_photos(place.folder / "photos" / "sub", 6, first=100)
    place.label()
    (place.folder / "photos" / "sub").chmod(0)
    try:
        for shard in ("1/2", "2/2"):
            place.run("photos", "-o", REPORT, "--shard", shard, before=unprivileged_prefix())
    finally:
        (place.folder / "photos" / "sub").chmod(0o755)
    assert place.label()["labelled_now"] == 1


def test_python_labels_a_shard(place: RunFolder) -> None:
    code = (
        "import batch, sys; from batch.shard import Shard\n"
        f"options = batch.Options(model={BASE_ARGUMENTS[2]!r}, provider=batch.Provider.CPU,"
        " workers=1, shard=Shard(1, 2))\n"
        "for row in batch.label(['photos'], options): print(row.path)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
        capture_output=True,
        check=True,
    )
    assert ran.stdout == place.run("photos", "--dry-run", "--shard", "1/2").stdout


def _shard_of(path: str, of: int) -> str:
    return next(
        str(shard) for n in range(of) if (shard := Shard(n + 1, of)).contains(path.encode())
    )


def _holds_broken(shard: str) -> bool:
    return parse_shard(shard).contains(b"photos/broken.jpg")
