from __future__ import annotations

import inspect
import io
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from batch.discovery.discover import Discovery, discover
from batch.discovery.name_stack import NameStack
from batch.errors import InputError
from batch.file_types import HEAD_BYTES, SUFFIXES, is_image
from batch.options import Search
from batch.records import Failure, Reason
from tests.support.discovery import find, find_skipped, put, without_privileges


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_walks_in_the_order_of_the_names_bytes() -> None:
    put("photos/b.jpg", "photos/B.jpg", "photos/a/z.jpg", "photos/é.jpg", "photos/a.jpg")
    assert find("photos") == [
        f"photos/{name}" for name in ("B.jpg", "a/z.jpg", "a.jpg", "b.jpg", "é.jpg")
    ]


def test_reports_paths_as_they_were_given(tmp_path: Path) -> None:
    put("photos/x.jpg")
    assert find(".") == ["photos/x.jpg"]
    assert find("photos/") == ["photos/x.jpg"]
    assert find("photos/x.jpg") == ["photos/x.jpg"]
    assert find(str(tmp_path)) == [str(tmp_path / "photos/x.jpg")]


def test_names_that_are_not_text_survive() -> None:
    name = os.fsdecode(b"photos/caf\xe9\nline.jpg")
    put(name)
    assert find("photos") == [name]
    assert find("-", listing=os.fsencode(name) + b"\0") == [name]


def test_suffix_alone_makes_a_photo_of_a_file() -> None:
    put("photos/text.JPG", "photos/empty.heic", content=b"")
    assert find("photos") == ["photos/empty.heic", "photos/text.JPG"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_content_alone_makes_a_photo_of_a_file(form: str, astronaut: Image.Image) -> None:
    Path("photos").mkdir()
    astronaut.resize((64, 64)).save("photos/IMG_0001", form)
    assert find("photos") == ["photos/IMG_0001"]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True),
        (b"\0\0\0\x1cftypmsf1\0\0\0\0msf1hevc", True),
        (b"II+\0\x08\0\0\0", True),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", False),
        # A brand behind the box's end belongs to something else.
        (b"\0\0\0\x10ftypisom\0\0\0\0heicheic", False),
        (b"RIFF\x24\0\0\0WAVEfmt ", False),
        (b"BM is how this text begins, and on it goes", False),
        (b"", False),
        (b"GIF", False),
    ],
)
def test_first_bytes(head: bytes, expected: bool) -> None:
    assert len(head) <= HEAD_BYTES
    assert is_image(head) is expected


def test_other_entries_of_a_folder_are_skipped_with_a_reason() -> None:
    put("photos/.trash/x.jpg", "photos/._x.jpg", "photos/sub/x.jpg")
    put("photos/notes.txt", content=b"no photo")
    put("photos/x.jpg.xmp", "photos/X.XMP", content=b"<x:xmpmeta/>")
    os.mkfifo("photos/pipe")
    Path("photos/link.jpg").symlink_to("sub/x.jpg")
    Path("photos/link").symlink_to("sub")
    expected = {
        "photos/.trash": "hidden",
        "photos/._x.jpg": "hidden",
        "photos/notes.txt": "no image",
        "photos/x.jpg.xmp": "sidecar",
        "photos/X.XMP": "sidecar",
        "photos/pipe": "not a regular file",
        "photos/link.jpg": "symbolic link",
        "photos/link": "symbolic link",
    }
    assert find_skipped("photos") == expected
    assert find_skipped("photos", search=Search(recursive=False)) == {
        **expected,
        "photos/sub": "in a subfolder",
    }


def test_camera_raws_are_skipped_though_they_begin_like_a_tiff() -> None:
    put("photos/DSC_1.NEF", "photos/DSC_1.jpg", content=b"II*\0\x08\0\0\0")
    assert find("photos") == ["photos/DSC_1.jpg"]
    assert find_skipped("photos") == {"photos/DSC_1.NEF": "camera raw"}
    assert find("photos/DSC_1.NEF") == ["photos/DSC_1.NEF"]


def test_files_that_are_inputs_are_found_by_any_name() -> None:
    put("notes.md", ".hidden.md", ".h/x.jpg", content=b"no photo")
    assert find("notes.md", ".hidden.md", ".h") == ["notes.md", ".hidden.md", ".h/x.jpg"]
    assert find("*.md") == ["notes.md"]
    assert find(".*.md") == [".hidden.md"]
    assert find("-", listing=b"notes.md\n") == ["notes.md"]


def test_search_options() -> None:
    put("photos/.x.jpg", "photos/sub/y.jpg", "photos/z.jpg")
    assert find("photos", search=Search(hidden=True)) == [
        "photos/.x.jpg",
        "photos/sub/y.jpg",
        "photos/z.jpg",
    ]
    assert find("photos", search=Search(recursive=False)) == ["photos/z.jpg"]


@pytest.mark.parametrize("text", ["", "missing", "missing/*.jpg", "here.jpg/below", "a**b", "-"])
def test_wrong_inputs_stop_the_run_before_it_begins(text: str) -> None:
    put("here.jpg")
    with pytest.raises(InputError) as caught:
        discover(["here.jpg", text], Search())
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dangling_link_is_refused_as_an_input() -> None:
    Path("gone.jpg").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"gone\.jpg"):
        discover(["gone.jpg"], Search())


def test_a_folder_in_a_list_is_looked_into_if_it_ends_in_a_slash() -> None:
    put("sub/a.jpg", "sub/deeper/b.jpg")
    listing = b"sub\n.\n..\n/\n//\n/../\n~\nsub/deeper/\n"
    survey = Discovery(["-"], Search(), listing=io.BytesIO(listing))
    assert [file.path for file in survey] == ["~", "sub/deeper/b.jpg"]
    left: Counter[str] = Counter()
    survey = Discovery(
        ["-"],
        Search(),
        listing=io.BytesIO(listing),
        on_skip=lambda path, why: left.update([why]),
    )
    list(survey)
    assert left == {"folder in a list": 6}


def test_each_file_comes_once() -> None:
    put("a/x.jpg", "a/b/y.jpg")
    Path("in").symlink_to("a/b")
    assert find("a/b", "a", "a/x.jpg", "./a/../a/b/y.jpg", "in") == ["a/b/y.jpg", "a/x.jpg"]
    assert find("-", "a", listing=b"in/y.jpg\nlost\na/b/y.jpg\nlost\n") == [
        "in/y.jpg",
        "lost!vanished",
        "a/x.jpg",
    ]
    assert find(str(Path("a").absolute()), "a") == [
        str(Path(name).absolute()) for name in ("a/b/y.jpg", "a/x.jpg")
    ]


def test_a_text_that_is_skipped_in_a_folder_is_found_if_it_is_named() -> None:
    put("a/notes.md", content=b"no photo")
    assert find("a", "a/notes.md") == ["a/notes.md"]


def test_hard_links_are_files_of_their_own() -> None:
    put("a/x.jpg")
    os.link("a/x.jpg", "a/y.jpg")
    assert find("a", "a", search=Search(follow_symlinks=True)) == ["a/x.jpg", "a/y.jpg"]


def test_a_link_that_is_named_is_followed() -> None:
    put("far/x.jpg")
    Path("near").symlink_to("far")
    Path("x").symlink_to("far/x.jpg")
    assert find("near") == ["near/x.jpg"]
    assert find("x") == ["x"]


def test_followed_links_lead_on_once_and_their_loops_end() -> None:
    put("a/x.jpg", "far/y.jpg")
    Path("a/again").symlink_to("..")
    Path("a/far").symlink_to("../far")
    Path("a/gone.txt").symlink_to("nowhere")
    Path("a/self").symlink_to("self")
    Path("a/z.jpg").symlink_to("x.jpg")
    assert find("a", search=Search(follow_symlinks=True)) == [
        "a/again/far/y.jpg",
        "a/gone.txt!vanished",
        "a/self!unreadable",
        "a/x.jpg",
    ]


def test_pipes_sockets_and_devices_are_never_opened() -> None:
    Path("a").mkdir()
    os.mkfifo("a/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a/socket.png")
        assert find("a") == []
    assert find("a/pipe.jpg") == ["a/pipe.jpg!not_a_file"]
    assert find("/dev/null") == ["/dev/null!not_a_file"]


def test_a_pipe_that_takes_a_files_place_does_not_block_the_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put("a/photo")

    take = NameStack.take

    def meanwhile(names: NameStack, number: int) -> list[str]:
        Path("a/photo").unlink()
        os.mkfifo("a/photo")
        return take(names, number)

    monkeypatch.setattr(NameStack, "take", meanwhile)
    assert find("a") == []


def test_unreadable_files_and_folders_are_failures(tmp_path: Path) -> None:
    put("a/1.jpg", "a/locked/2.jpg", "a/photo", "a/z.jpg")
    Path("a/photo").chmod(0)
    Path("a/locked").chmod(0)
    with without_privileges(tmp_path):
        found = find("a")
    Path("a/locked").chmod(0o755)
    assert found == ["a/1.jpg", "a/locked!unreadable", "a/photo!unreadable", "a/z.jpg"]


def test_an_input_behind_a_locked_folder_is_a_clear_error(tmp_path: Path) -> None:
    put("locked/x.jpg")
    Path("locked").chmod(0)
    with (
        without_privileges(tmp_path),
        pytest.raises(InputError, match=r"permission denied \(folder locked, owner .+, mode 000\)"),
    ):
        discover(["locked/x.jpg"], Search())
    Path("locked").chmod(0o755)


def test_folders_may_nest_deeper_than_python_calls() -> None:
    depth = 200
    put("/".join("d" * depth) + "/x.jpg")
    limit = sys.getrecursionlimit()
    # Not a deeper tree, which shutil.rmtree could not remove after the test.
    sys.setrecursionlimit(len(inspect.stack()) + depth // 2)
    try:
        found = find("d")
    finally:
        sys.setrecursionlimit(limit)
    assert len(found) == 1


def test_a_path_longer_than_the_system_takes_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        Path("d" * 250).mkdir()
        monkeypatch.chdir("d" * 250)
    monkeypatch.chdir(tmp_path)
    put("z.jpg")
    found = find(".")
    assert found[-1] == "z.jpg"
    assert [item.rpartition("!")[2] for item in found[:-1]] == [Reason.UNREADABLE]


def test_a_folder_that_vanishes_during_the_walk_does_not_end_it() -> None:
    put("a/1.jpg", "a/sub/2.jpg", "a/z.jpg")
    walk = discover(["a"], Search())
    assert next(walk) == Path("a/1.jpg")
    Path("a/sub/2.jpg").unlink()
    Path("a/sub").rmdir()
    lost, last = walk
    assert isinstance(lost, Failure)
    assert lost.reason is Reason.VANISHED
    assert last == Path("a/z.jpg")


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


def test_the_module_loads_nothing_heavy(repository: Path) -> None:
    code = (
        "import sys, batch.discovery.discover; "
        "print(*{'numpy', 'PIL', 'click', 'onnx'} & {*sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
