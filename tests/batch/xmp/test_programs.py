"""Sidecars as exiftool and exiv2 read and rewrite them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from batch.xmp import FaceRegion, remove_content, update_sidecar
from tests.support.sidecars import (
    DIGIKAM,
    SIDECARS,
    change_with_exiftool,
    change_with_exiv2,
    make_content,
    read_all_with_exiftool,
    read_keywords,
    read_with_exiv2,
    validate_with_exiftool,
)

FACES = (FaceRegion("happy", 600, 100, 200, 240), FaceRegion("neither", 160, 110, 180, 200))
KEYWORD_PROPERTIES = ("XMP-dc:Subject", "XMP-lr:HierarchicalSubject", "XMP-digiKam:TagsList")
REGIONS = "XMP-mwg-rs:RegionInfo"


def make_sidecars(folder: Path) -> dict[str, bytes]:
    """Make sidecars as programs write them, by hand and by the programs that are here."""
    written = change_with_exiftool(
        None,
        folder,
        "-XMP-dc:Subject=beach",
        "-XMP-dc:Subject=happy",
        "-XMP-lr:HierarchicalSubject=places|beach",
        "-XMP-dc:Title=Un été",
        "-XMP-xmp:Rating=3",
        "-XMP-xmp:Label=Blue",
        "-XMP-exif:GPSLatitude=52.5",
        "-XMP-iptcExt:LocationCreated={City=Berlin,CountryName=Germany}",
        "-RegionInfo={AppliedToDimensions={W=1000,H=800,Unit=pixel},RegionList=["
        "{Area={X=0.7,Y=0.28,W=0.2,H=0.3,Unit=normalized},Name=Ben,Type=Face},"
        "{Area={X=0.1,Y=0.1,W=0.05,H=0.05,Unit=normalized},Name=Rex,Type=Pet}]}",
    )
    compact = change_with_exiftool(written, folder, "-api", "Compact=Shorthand,NoPadding")
    rewritten = change_with_exiv2(
        written, folder, "set Xmp.dc.source a & b", "set Xmp.xmp.Rating 1"
    )
    return {**SIDECARS, "exiftool": written, "compact exiftool": compact, "exiv2": rewritten}


def as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def note_lists(properties: dict[str, Any]) -> dict[str, Any]:
    """Note a keyword that stood in an attribute as a list of one, as which it is written."""
    subject = as_list(properties.get(KEYWORD_PROPERTIES[0]))
    return {**properties, **({KEYWORD_PROPERTIES[0]: subject} if subject else {})}


def drop_own(properties: dict[str, Any]) -> dict[str, Any]:
    """Drop what batch-label adds."""
    own = (*KEYWORD_PROPERTIES, REGIONS)
    return {
        name: value
        for name, value in properties.items()
        if name not in own and not name.startswith("XMP-batchlabel:")
    }


def test_whatever_is_written_nothing_else_changes(tmp_path: Path) -> None:
    sidecars = make_sidecars(tmp_path)
    roots = ("expression", "mood|expression")
    labels = (("happy",), ("neither", "happy"), ("very sad é <&>",), ())
    cases = list(itertools.product(sidecars, roots, labels, (None, (), FACES)))
    states: list[bytes] = []
    for name, root, keywords, faces in cases:
        before = sidecars[name]
        content = make_content(*keywords, root=root, faces=faces)
        made = update_sidecar(before, content)
        assert update_sidecar(made, content) is made
        sad = update_sidecar(made, make_content("sad", root=root, faces=()))
        assert read_keywords(made, root) == keywords
        assert read_keywords(sad, root) == ("sad",)
        removed = remove_content(sad, root)
        directly = remove_content(made, root)
        assert removed is not None
        assert directly is not None
        states += [before, made, sad, removed, directly]
    found = iter(read_all_with_exiftool(states, tmp_path))
    for name, root, keywords, faces in cases:
        original, first, second, late, early = map(note_lists, itertools.islice(found, 5))
        case = f"{name} {root} {keywords} {faces}"
        assert late == original, case
        assert early == original, case
        assert drop_own(first) == drop_own(original), case
        for state, words in ((first, keywords), (second, ("sad",))):
            for key, separator in zip(KEYWORD_PROPERTIES, ("", "|", "/"), strict=True):
                start = root.replace("|", separator) + separator if separator else ""
                values = as_list(state.get(key))
                wanted = {*as_list(original.get(key)), *(f"{start}{word}" for word in words)}
                assert wanted <= set(values), case
                assert len(values) == len(set(values)), case
        was_there = "happy" in as_list(original.get(KEYWORD_PROPERTIES[0]))
        assert ("happy" in as_list(second.get(KEYWORD_PROPERTIES[0]))) == was_there, case
        theirs = original.get(REGIONS, {}).get("RegionList", [])
        regions = first.get(REGIONS, {}).get("RegionList", [])
        assert regions[: len(theirs)] == theirs, case
        # exiftool's Ben is on the first face, digiKam's Anna on the second.
        taken = {"digikam": 1, "exiftool": 0, "compact exiftool": 0, "exiv2": 0}.get(name)
        free = [face for number, face in enumerate(faces or ()) if number != taken]
        ours = [region["Description"] for region in regions[len(theirs) :]]
        assert ours == [f"{root}|{face.label}" for face in free], case


def test_exiv2_reads_what_is_written(tmp_path: Path) -> None:
    for before in make_sidecars(tmp_path).values():
        made = update_sidecar(before, make_content("happy", faces=FACES))
        found = read_with_exiv2(made, tmp_path)
        assert "happy" in found["Xmp.dc.subject"].split(", ")
        assert "expression|happy" in found["Xmp.lr.hierarchicalSubject"].split(", ")
        assert "expression/happy" in found["Xmp.digiKam.TagsList"].split(", ")
        described = [value for key, value in found.items() if key.endswith("mwg-rs:Description")]
        assert described[-1] in ("expression|happy", "expression|neither")
        removed = remove_content(made, "expression")
        assert removed is not None
        assert read_with_exiv2(removed, tmp_path) == read_with_exiv2(before, tmp_path)


def test_exiftool_finds_nothing_amiss(tmp_path: Path) -> None:
    made = update_sidecar(None, make_content("happy", root="mood|expression", faces=FACES))
    assert validate_with_exiftool(made, tmp_path) == []
    for before in make_sidecars(tmp_path).values():
        made = update_sidecar(before, make_content("happy", faces=FACES))
        assert validate_with_exiftool(made, tmp_path) == validate_with_exiftool(before, tmp_path)


@pytest.mark.parametrize("program", ["exiftool", "exiv2"])
def test_a_sidecar_that_a_program_has_rewritten_is_known_again(
    program: str, tmp_path: Path
) -> None:
    content = make_content("happy", faces=FACES)
    for name, before in make_sidecars(tmp_path).items():
        made = update_sidecar(before, content)
        if program == "exiftool":
            rewritten = change_with_exiftool(made, tmp_path, "-XMP-xmp:Rating=4")
            original = change_with_exiftool(before, tmp_path, "-XMP-xmp:Rating=4")
        else:
            rewritten = change_with_exiv2(made, tmp_path, "set Xmp.xmp.Rating 4")
            original = change_with_exiv2(before, tmp_path, "set Xmp.xmp.Rating 4")
        assert rewritten != made
        assert update_sidecar(rewritten, content) is rewritten, name
        removed = remove_content(rewritten, "expression")
        assert removed is not None
        after, expected = read_all_with_exiftool([removed, original], tmp_path)
        assert note_lists(after) == note_lists(expected), name


def test_a_keyword_that_a_program_adds_stays(tmp_path: Path) -> None:
    made = update_sidecar(DIGIKAM, make_content("happy"))
    more = change_with_exiftool(made, tmp_path, "-XMP-dc:Subject+=sea", "-XMP-dc:Subject-=Anna")
    sad = update_sidecar(more, make_content("sad"))
    removed = remove_content(sad, "expression")
    assert removed is not None
    after_sad, after_removal = read_all_with_exiftool([sad, removed], tmp_path)
    assert set(after_sad["XMP-dc:Subject"]) == {"Straße & Café", "sea", "sad"}
    assert set(after_removal["XMP-dc:Subject"]) == {"Straße & Café", "sea"}
