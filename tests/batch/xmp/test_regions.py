"""Face regions in sidecars: where they are, whose they are, and that no label becomes a name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from batch.errors import SidecarError
from batch.xmp import FaceRegion, SidecarContent, remove_content, update_sidecar
from tests.support.sidecars import (
    DIGIKAM,
    FLAT,
    SIDECARS,
    change_with_exiftool,
    make_content,
    read_with_exiftool,
)

LEFT = FaceRegion("happy", 600, 100, 200, 240)
RIGHT = FaceRegion("neither", 100, 500, 100, 120)
ANNA = FaceRegion("happy", 160, 110, 180, 200)  # where DIGIKAM has a region of that name


def read_regions(data: bytes, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_with_exiftool(data, folder)["XMP-mwg-rs:RegionInfo"]
    return found


def test_a_region_has_a_description_and_no_name(tmp_path: Path) -> None:
    made = update_sidecar(None, make_content("happy", faces=(LEFT, RIGHT)))
    assert read_regions(made, tmp_path) == {
        "AppliedToDimensions": {"W": 1000, "H": 800, "Unit": "pixel"},
        "RegionList": [
            {
                "Area": {"X": 0.7, "Y": 0.275, "W": 0.2, "H": 0.3, "Unit": "normalized"},
                "Type": "Face",
                "Description": "expression|happy",
            },
            {
                "Area": {"X": 0.15, "Y": 0.7, "W": 0.1, "H": 0.15, "Unit": "normalized"},
                "Type": "Face",
                "Description": "expression|neither",
            },
        ],
    }
    assert b"mwg-rs:Name" not in made


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_lies_on_the_stored_picture(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((80, 100), np.uint8)
    upright[10:30, 60:90] = 255  # the face
    exif = Image.Exif()
    exif[0x0112] = orientation
    # The stored picture is the one that Pillow turns into the upright one.
    for stored in (Image.fromarray(turned) for turned in turn_in_all_ways(upright)):
        stored.save(tmp_path / "photo.png", exif=exif)
        with Image.open(tmp_path / "photo.png") as photo:
            if np.array_equal(np.asarray(ImageOps.exif_transpose(photo)), upright):
                break
    else:
        pytest.fail("no way to store the picture")
    face = FaceRegion("happy", 60, 10, 30, 20)
    content = SidecarContent(("happy",), "expression", (face,), 100, 80, orientation)
    text = update_sidecar(None, content).decode()
    x, y, w, h = (float(re.findall(f"<stArea:{name}>(.*?)<", text)[0]) for name in "xywh")
    width, height = (int(re.findall(f"<stDim:{name}>(.*?)<", text)[0]) for name in "wh")
    assert (width, height) == stored.size
    found = np.zeros((height, width), np.uint8)
    top, bottom = round((y - h / 2) * height), round((y + h / 2) * height)
    found[top:bottom, round((x - w / 2) * width) : round((x + w / 2) * width)] = 255
    assert np.array_equal(found, np.asarray(stored))


def turn_in_all_ways(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> list[Any]:
    turns = [np.rot90(picture, quarter) for quarter in range(4)]
    return [np.ascontiguousarray(turned) for turn in turns for turned in (turn, turn[:, ::-1])]


@pytest.mark.parametrize("name", SIDECARS)
def test_a_second_update_changes_nothing(name: str) -> None:
    content = make_content("happy", faces=(ANNA, LEFT, RIGHT))
    once = update_sidecar(SIDECARS[name], content)
    assert update_sidecar(once, content) is once


def test_regions_of_others_are_kept_and_not_doubled(tmp_path: Path) -> None:
    before = read_regions(DIGIKAM, tmp_path)
    made = update_sidecar(DIGIKAM, make_content("happy", faces=(ANNA, LEFT)))
    after = read_regions(made, tmp_path)
    assert after["AppliedToDimensions"] == before["AppliedToDimensions"]
    # Behind the one with a name: digiKam stops reading at the first one without.
    assert [region.get("Name") for region in after["RegionList"]] == ["Anna", None]
    assert after["RegionList"][:1] == before["RegionList"]
    removed = remove_content(made, "expression")
    assert removed is not None
    assert read_regions(removed, tmp_path) == before


def test_regions_are_replaced() -> None:
    first = update_sidecar(FLAT, make_content("happy", faces=(LEFT, RIGHT)))
    other = replace(LEFT, label="sad")
    second = update_sidecar(first, make_content("sad", faces=(other,)))
    assert b"happy" not in second
    assert second == update_sidecar(FLAT, make_content("sad", faces=(other,)))
    # None adds none, an empty tuple removes them.
    assert update_sidecar(second, make_content("sad")) is second
    emptied = update_sidecar(second, make_content("sad", faces=()))
    assert b"<mwg-rs:" not in emptied
    assert b"expression|sad" in emptied
    assert remove_content(second, "expression") == FLAT


def test_regions_are_removed_without_the_record() -> None:
    made = update_sidecar(FLAT, make_content("happy", faces=(LEFT,)))
    dropped = re.sub(rb"<(batchlabel:\w+)>.*?</\1>", b"", made, flags=re.DOTALL)
    assert dropped != made
    for left in (
        remove_content(dropped, "expression"),
        update_sidecar(dropped, make_content("sad", faces=())),
    ):
        assert left is not None
        assert b"<mwg-rs:" not in left


def test_regions_that_were_there_and_empty_stay(tmp_path: Path) -> None:
    start, end = (
        DIGIKAM.index(b"      <rdf:li>\n       <rdf:Desc"),
        DIGIKAM.index(b"     </rdf:Bag>\n    </mwg"),
    )
    emptied = (DIGIKAM[:start] + DIGIKAM[end:]).replace(
        b"     <rdf:Bag>\n     </rdf:Bag>\n    </mwg", b"     <rdf:Bag/>\n    </mwg"
    )
    made = update_sidecar(emptied, make_content("happy", faces=(LEFT,)))
    removed = remove_content(made, "expression")
    assert removed is not None
    assert read_regions(removed, tmp_path) == read_regions(emptied, tmp_path)
    assert "AppliedToDimensions" in read_regions(removed, tmp_path)


def test_a_region_that_got_a_name_is_someone_s(tmp_path: Path) -> None:
    made = update_sidecar(FLAT, make_content("happy", faces=(LEFT,)))
    named = made.replace(b"<mwg-rs:Type>", b"<mwg-rs:Name>Ben</mwg-rs:Name><mwg-rs:Type>")
    assert named != made
    sad = update_sidecar(named, make_content("sad", faces=(replace(LEFT, label="sad"),)))
    (region,) = read_regions(sad, tmp_path)["RegionList"]
    assert (region["Name"], region["Description"]) == ("Ben", "expression|sad")
    assert b"happy" not in sad
    removed = remove_content(sad, "expression")
    assert removed is not None
    (region,) = read_regions(removed, tmp_path)["RegionList"]
    assert region["Name"] == "Ben"
    assert "Description" not in region


def test_descriptions_follow_the_label_although_faces_are_not_given(tmp_path: Path) -> None:
    made = update_sidecar(FLAT, make_content("happy", faces=(LEFT,)))
    named = made.replace(b"<mwg-rs:Type>", b"<mwg-rs:Name>Ben</mwg-rs:Name><mwg-rs:Type>")

    for before, name in ((made, None), (named, "Ben")):
        sad = update_sidecar(before, make_content("sad"))
        (region,) = read_regions(sad, tmp_path)["RegionList"]
        assert (region.get("Name"), region["Description"]) == (name, "expression|sad")
        assert b"happy" not in sad
        assert update_sidecar(sad, make_content("sad")) is sad


def test_a_region_is_removed_if_it_is_not_known_which_label_is_its(tmp_path: Path) -> None:
    made = update_sidecar(DIGIKAM, make_content("happy", "neither", faces=(LEFT, RIGHT)))
    before = read_regions(DIGIKAM, tmp_path)["RegionList"]

    two = update_sidecar(made, make_content("sad", "neither"))
    regions = read_regions(two, tmp_path)["RegionList"]
    assert regions[:-1] == before
    assert regions[-1]["Description"] == "expression|neither"
    none = update_sidecar(made, make_content("sad", "angry"))
    assert read_regions(none, tmp_path)["RegionList"] == before

    alone = update_sidecar(FLAT, make_content("happy", faces=(LEFT,)))
    named = alone.replace(b"<mwg-rs:Type>", b"<mwg-rs:Name>Ben</mwg-rs:Name><mwg-rs:Type>")
    assert b"<mwg-rs:" not in update_sidecar(alone, make_content("sad", "angry"))
    (region,) = read_regions(update_sidecar(named, make_content("sad", "angry")), tmp_path)[
        "RegionList"
    ]
    assert (region["Name"], "Description" in region) == ("Ben", False)


def test_a_region_that_someone_adds_behind_comes_first_after_the_next_update() -> None:
    content = make_content("happy", faces=(LEFT,))
    made = update_sidecar(DIGIKAM, content).decode()
    start, end = (
        made.index("<rdf:li>\n       <rdf:Description"),
        made.index("<mwg-rs:Type>Face</mwg"),
    )
    start_of_ours = made.rindex("<rdf:li", start, end)
    end_of_ours = made.index("</rdf:li>", end) + len("</rdf:li>")
    moved = made[:start] + made[start_of_ours:end_of_ours] + made[start:start_of_ours]
    moved += made[end_of_ours:]
    again = update_sidecar(moved.encode(), content).decode()
    assert again.index('mwg-rs:Name="Anna"') < again.index("expression|happy</mwg-rs:Description>")


def test_a_camera_s_focus_area_does_not_stand_for_a_face(tmp_path: Path) -> None:
    focus = change_with_exiftool(
        None,
        tmp_path,
        "-RegionInfo={AppliedToDimensions={W=1000,H=800,Unit=pixel},RegionList=["
        "{Area={X=0.7,Y=0.275,W=0.2,H=0.3,Unit=normalized},Type=Focus}]}",
    )
    made = update_sidecar(focus, make_content("happy", faces=(LEFT,)))
    types = [region["Type"] for region in read_regions(made, tmp_path)["RegionList"]]
    assert types == ["Focus", "Face"]


def test_a_face_is_cut_at_the_edges_and_one_outside_is_left_out() -> None:
    faces = (
        FaceRegion("happy", -100, 700, 300, 300),
        FaceRegion("happy", 2000, 0, 10, 10),
        FaceRegion("happy", 10, 10, 0, 10),
        FaceRegion("happy", float("nan"), 10, 10, 10),
    )
    text = update_sidecar(None, make_content("happy", faces=faces)).decode()
    found = [re.findall(f"<stArea:{name}>(.*?)<", text) for name in "xywh"]
    assert found == [["0.100000"], ["0.937500"], ["0.200000"], ["0.125000"]]


@pytest.mark.parametrize(("width", "orientation"), [(0, 1), (1000, 0), (1000, 9)])
def test_a_photo_without_a_size_or_with_an_unknown_orientation_is_refused(
    width: int, orientation: int
) -> None:
    content = SidecarContent((), "expression", (LEFT,), width, 800, orientation)
    with pytest.raises(SidecarError, match="has no face regions; label the photo again"):
        update_sidecar(None, content)


def test_regions_in_an_unknown_form_are_refused() -> None:
    odd = DIGIKAM.replace(b"<rdf:Bag>\n      <rdf:li>\n", b"<rdf:Bag/><rdf:Bag>\n<rdf:li>\n")
    assert odd != DIGIKAM
    with pytest.raises(SidecarError, match="mwg-rs:Regions is not a list of regions; repair"):
        update_sidecar(odd, make_content("happy", faces=()))
