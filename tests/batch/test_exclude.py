"""Exclude patterns: their syntax, held against git's own, and what a run makes of them."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import batch
from batch.cli.settings import parse_newer_than
from batch.discovery.discover import Discovery, discover
from batch.discovery.name_stack import NameStack
from batch.discovery.walk import FolderWalker
from batch.errors import ExitCode, InputError, UsageError
from batch.exclude import JUNK_FOLDER, JUNK_PATTERNS, Exclusion, read_patterns
from batch.found import FoundFile
from batch.options import Search
from tests.batch.discovery.test_discover import JPEG, find, put
from tests.conftest import Command
from tests.support.runs import REPORT, RunFolder, make_photos

PATHS = (
    *("a.jpg", "b.png", "raw/a.jpg", "raw/sub/a.jpg", "x/raw/a.jpg", "x/raw.jpg", "x/y/z/a.jpg"),
    *("x/y/b.png", "2020/01/a.jpg", "2020/a b.jpg", "#x.jpg", "!x.jpg", "x/[a].jpg", "x/éa.jpg"),
    *("x/a*b.jpg", "x/aXbXc.jpg", "x/back\\slash.jpg", "x/]q.jpg", "x/-q.jpg", "x/^q.jpg"),
    *("A.JPG", "x/y/raw/z/raw/a.jpg", ".dot/a.jpg", "x/.a.jpg", "x/tail .jpg"),
)
PATTERNS = [
    *(["raw"], ["raw/"], ["/raw"], ["/raw/"], ["x/raw"], ["**/raw"], ["**/raw/"], ["x/**"]),
    *(["x/**/raw"], ["x/**/a.jpg"], ["/**"], ["**"], ["**/"], ["*"], ["/*"], ["x/*"], ["*/a.jpg"]),
    *(["*.png"], ["a.*"], ["?.jpg"], ["x/?.jpg"], ["[ab].*"], ["[!a].jpg"], ["[^a].jpg"]),
    *(["[a-c].jpg"], ["[z-a].jpg"], [r"\[a].jpg"], ["[[]a].jpg"], ["[]]q.jpg"], ["[]-]q.jpg"]),
    *(["[[:digit:]][[:digit:]]*"], ["*[[:upper:]]*"], ["[![:alnum:]]*"], [r"a\*b.jpg"]),
    *([r"back\\slash.jpg"], [r"\#x.jpg"], [r"\!x.jpg"], ["a*b*c*"], ["a**c.jpg"], ["x/a**c.jpg"]),
    *(
        ["*.jpg", "!a.jpg"],
        ["raw/", "!raw/"],
        ["*", "!*/", "!*.png"],
        ["/*", "!/x", "/x/*", "!x/y"],
    ),
    *(["x", "!x/raw"], ["!a.jpg"], ["a.jpg", "!a.jpg", "/a.jpg"], ["//a.jpg"], ["x//raw"], ["/"]),
    *(["x/y/**/a.jpg"], ["**/y/**"], ["20[0-9][0-9]"], ["a b.jpg"], [r"tail\ .jpg"], ["é.jpg"]),
    *([".*"], ["!"], ["**/**/a.jpg"], ["**raw"], ["raw**/"], ["x/**/**/z"], ["[a-]*"], ["[--b]q*"]),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("git"):
        pytest.skip("git, whose patterns these are, is not there")
    folder = tmp_path_factory.mktemp("tree")
    for path in PATHS:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(JPEG)
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


@pytest.mark.parametrize("patterns", PATTERNS, ids=" ".join)
def test_patterns_mean_what_they_mean_to_git(tree: Path, patterns: list[str]) -> None:
    command = ["git", "-C", str(tree), "-c", "core.excludesFile=", "ls-files", "-z", "--others"]
    # By a file, as patterns on the command line have no comments.
    excludes = tree / ".git" / "info" / "exclude"
    excludes.write_text("".join(f"{pattern}\n" for pattern in patterns))
    listed = subprocess.run([*command, "--exclude-standard"], check=True, capture_output=True)
    expected = sorted(filter(None, listed.stdout.decode().split("\0")))
    search = Search(hidden=True, exclude=(*(f"!{name}" for name in JUNK_PATTERNS), *patterns))
    found = (str(path)[len(f"{tree}/") :] for path in discover([str(tree)], search))
    assert sorted(path for path in found if not path.startswith(".git/")) == expected
    exclusion = Exclusion(patterns)
    assert [path for path in sorted(PATHS) if not exclusion.match_path(path)] == expected


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def find_skipped(*inputs: str, search: Search, listing: bytes | None = None) -> dict[str, str]:
    told: dict[str, str] = {}
    stream = None if listing is None else io.BytesIO(listing)
    survey = Discovery(
        inputs, search, listing=stream, on_skip=lambda path, why: told.update({str(path): why})
    )
    assert len(list(survey)) == len(list(survey))  # every iteration tells it all
    return told


@pytest.mark.usefixtures("_here")
def test_junk_folders_are_not_entered_unless_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put("p/a.jpg", "p/@eaDir/a.jpg", "p/x/lost+found/b.jpg", "p/Cat Previews.lrdata/c.jpg")
    put("p/My.photoslibrary/resources/d.jpg", "p/My.photoslibrary/originals/d.jpg")
    entered: list[str] = []
    inside = FolderWalker._list_folder

    def enter(
        explorer: FolderWalker, folder: str, start: int, names: NameStack
    ) -> Iterator[FoundFile | str]:
        entered.append(folder)
        return inside(explorer, folder, start, names)

    monkeypatch.setattr(FolderWalker, "_list_folder", enter)
    assert find("p") == ["p/My.photoslibrary/originals/d.jpg", "p/a.jpg"]
    assert entered == ["p", "p/My.photoslibrary", "p/My.photoslibrary/originals", "p/x"]
    assert find_skipped("p", search=Search()) == {
        "p/@eaDir": JUNK_FOLDER,
        "p/x/lost+found": JUNK_FOLDER,
        "p/Cat Previews.lrdata": JUNK_FOLDER,
        "p/My.photoslibrary/resources": JUNK_FOLDER,
    }
    assert find("p/@eaDir") == ["p/@eaDir/a.jpg"]
    assert "p/@eaDir/a.jpg" in find("p", search=Search(exclude=("!@eaDir",)))


@pytest.mark.usefixtures("_here")
def test_excluded_files_are_never_opened() -> None:
    put("p/a.jpg")
    os.mkfifo("p/b.png")
    put("p/c", content=b"")
    Path("p/c").chmod(0)
    search = Search(exclude=("*.png", "c"))
    assert find("p", search=search) == ["p/a.jpg"]
    assert find_skipped("p", search=search) == {"p/b.png": "excluded", "p/c": "excluded"}


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("pattern", ["p/*", "p/**", "p/**/*.jpg", "p/*/*.jpg", "p/[xrR]*"])
def test_a_pattern_leaves_out_what_the_walk_does(pattern: str) -> None:
    put("p/a.jpg", "p/raw/b.jpg", "p/x/raw/c.jpg", "p/x/d.jpg", "p/@eaDir/e.jpg", "p/x/f.png")
    search = Search(exclude=("/raw", "x/raw", "*.png"))
    walked = set(find("p", search=search))
    assert set(find(pattern, search=search)) <= walked == {"p/a.jpg", "p/x/d.jpg"}
    assert set(find_skipped(pattern, search=search)) <= set(find_skipped("p", search=search))
    assert "p/raw" in find_skipped("p/*", search=search)


@pytest.mark.usefixtures("_here")
def test_what_is_named_is_left_out_by_its_name_alone() -> None:
    put("raw/p/a.jpg", "raw/p/b.png", "raw/p/raw/c.jpg", "raw/p/@eaDir/d.jpg")
    # As a shell expands raw/p/*.
    inputs = ["raw/p/a.jpg", "raw/p/b.png", "raw/p/raw", "raw/p/@eaDir"]
    search = Search(exclude=("raw", "*.png", "*/"))
    assert find(*inputs, search=search) == ["raw/p/a.jpg", "raw/p/@eaDir/d.jpg"]
    assert find_skipped(*inputs, search=search) == {
        "raw/p/b.png": "excluded",
        "raw/p/raw": "excluded",
    }
    assert find("raw/p", search=Search(exclude=("*/",))) == ["raw/p/a.jpg", "raw/p/b.png"]


@pytest.mark.usefixtures("_here")
def test_a_list_is_matched_as_it_is_written() -> None:
    put("p/a.jpg", "p/raw/b.jpg", "p/@eaDir/c.jpg")
    listing = b"p/a.jpg\np/raw/b.jpg\np/@eaDir/c.jpg\n"
    search = Search(exclude=("raw/",))
    assert find("-", search=search, listing=listing) == ["p/a.jpg", "p/@eaDir/c.jpg"]
    assert find_skipped("-", search=search, listing=listing) == {"p/raw/b.jpg": "excluded"}


@pytest.mark.usefixtures("_here")
def test_members_of_archives_are_left_out_alike() -> None:
    put("p/a.jpg", "p/raw/b.jpg", "p/@eaDir/c.jpg", "p/x/d.png")
    with tarfile.open("p.tar", "w") as archive:
        archive.add("p", ".")
    search = Search(exclude=("/raw", "*.png"))
    assert find("p.tar", search=search) == ["tar://./a.jpg::p.tar"]
    assert set(find_skipped("p.tar", search=search).values()) == {"excluded", JUNK_FOLDER}


@pytest.mark.usefixtures("_here")
def test_only_files_that_changed_since_are_taken() -> None:
    put("p/old.jpg", "p/new.jpg", "p/old.tar")
    os.utime("p/old.jpg", (0, 0))
    os.utime("p/old.tar", (0, 0))
    search = Search(newer_than=datetime(2020, 1, 1), archives=True)
    assert find("p", "p/old.jpg", search=search) == ["p/new.jpg"]
    assert find_skipped("p", search=search) == {"p/old.jpg": "older", "p/old.tar": "older"}


@pytest.mark.parametrize("pattern", ["[a", "a\\", "x/[[:nothing:]]", "[a-", "[[:alpha:]", "[a\\"])
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is wrong"):
        Search(exclude=(pattern,))


def test_many_stars_cost_no_time() -> None:
    exclusion = Exclusion(["*a" * 40 + "b", "/x/" + "*a" * 40 + "b"])
    started = time.perf_counter()
    assert exclusion.match_file("x/" + "a" * 250) is None
    assert time.perf_counter() - started < 1


def test_a_file_of_patterns_has_comments_spaces_and_any_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "patterns"
    file.write_bytes(b"\xef\xbb\xbfraw/\r\n# no pattern\n\n  \n\\#x \ny\\ \n!z")
    assert read_patterns(str(file)) == ["raw/", "\\#x", "y\\ ", "!z"]
    file.write_text("raw\n", encoding="utf-16")
    with pytest.raises(UsageError, match="UTF-8"):
        read_patterns(str(file))
    with pytest.raises(UsageError, match="can't be read"):
        read_patterns(str(tmp_path))


def test_python_takes_a_list_or_a_single_pattern(tmp_path: Path) -> None:
    assert batch.Search(exclude=["a", "b"]).exclude == ("a", "b")  # type: ignore[arg-type]
    assert batch.Search(exclude="raw").exclude == ("raw",)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        discover([str(tmp_path / "gone")], batch.Search(exclude=("gone",)))


def test_a_run_counts_what_is_excluded_and_keeps_what_is_only_too_old(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 3)
    make_photos(tmp_path / "photos" / "raw", 1, first=3)
    make_photos(tmp_path / "photos" / "@eaDir", 1, first=4)
    os.utime(tmp_path / "photos" / "00000.jpg", (0, 0))
    (tmp_path / "patterns").write_text("# no photos\nraw/\n")
    assert place.label()["found"] == 4
    ran = place.run(
        *("photos", "-o", REPORT, "--exclude-from", "patterns", "--exclude", "*.png"),
        *("--newer-than", "2000-01-01"),
    )
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert "3 left out (" in ran.stderr
    record = place.record()
    reasons = {"older": 1, "excluded": 1, JUNK_FOLDER: 1}
    assert record["counts"]["left_out_by_reason"] == reasons
    assert record["settings"]["exclude"] == ["raw/", "*.png"]
    assert record["settings"]["newer_than"].endswith("Z")
    assert sorted(place.rows()) == ["photos/00001.jpg", "photos/00002.jpg"]
    assert place.label()["labelled_now"] == 0
    assert len(place.rows()) == 4


@pytest.mark.parametrize("text", ["7", "yesterday", "d", "", "0d0", "2026-13-01", "999999d"])
def test_what_is_neither_date_nor_age_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="neither a date nor an age"):
        parse_newer_than(text)


def test_dates_are_local_and_ages_end_now() -> None:
    now = datetime(2026, 11, 8, 12, tzinfo=UTC)
    assert parse_newer_than("7d", now) == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert parse_newer_than("1h30m", now) == datetime(2026, 11, 8, 10, 30, tzinfo=UTC)
    assert parse_newer_than("2026-11-01") == datetime(2026, 11, 1).astimezone()
    assert parse_newer_than("2026-11-01T18:00Z") == datetime(2026, 11, 1, 18, tzinfo=UTC)


def test_shards_take_no_age(command: Command, tmp_path: Path) -> None:
    ran = command("--dry-run", tmp_path, "--shard", "1/2", "--newer-than", "7d")
    assert ran.returncode == ExitCode.USAGE
    assert "--newer-than with an age" in ran.stderr
