"""docs/review.md says what the page and its command do."""

from __future__ import annotations

import re

from batch.cli.report import DEFAULT_GALLERY, MAX_GALLERY, report
from batch.page.thumbnails import MAX_PICTURE_SIDE
from batch.reading.reviews import REVIEW_COLUMNS
from batch.records import MIN_FACE_OVERLAP
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "review.md").read_text(encoding="utf-8")
PAGE = REPOSITORY / "batch" / "page"


def table(head: str) -> list[list[str]]:
    _, found, rest = TEXT.partition(f"\n| {head} |")
    assert found
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_options() -> None:
    named = {option for option, _ in table("Option | Meaning")}
    own = {", ".join(f"`{name}`" for name in option.opts) for option in report.params[1:]}
    assert named == own
    (gallery,) = (option for option in report.params if option.name == "gallery")
    assert gallery.default == DEFAULT_GALLERY
    assert getattr(gallery.type, "max", None) == MAX_GALLERY


def test_the_keys() -> None:
    script = (PAGE / "keys.js").read_text(encoding="utf-8")
    shown = re.findall(r'keys: "(.*?)",\s+does: "(.*?)"', script)
    own = [(key.encode().decode("unicode_escape"), does) for key, does in shown]
    assert [(key.replace("`", ""), does) for key, does in table("Key | Does")] == own


def test_the_columns_of_review_csv() -> None:
    script = (PAGE / "reviewfile.js").read_text(encoding="utf-8")
    listed = re.search(r"REVIEW_COLUMNS = \[(.*?)\]", script, re.DOTALL)
    assert listed
    columns = re.findall(r'"(\w+)"', listed[1])
    assert [name.strip("`") for name, _ in table("Column | Meaning")] == columns
    assert tuple(columns) == REVIEW_COLUMNS


def test_the_limits_of_the_script() -> None:
    limits = (REPOSITORY / "docs" / "limits.md").read_text(encoding="utf-8")
    constants = {
        name: eval(value.replace("_", ""))
        for script in ("answers.js", "reviewfile.js", "matching.js")
        for name, value in re.findall(
            r"^const (\w+) = ([\d_.* ]+);",
            (PAGE / script).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }
    assert f"are not in it | {constants['MAX_OTHERS']:,} |" in limits
    assert f"loaded into a page | {constants['MAX_REVIEW_BYTES']:,} bytes |" in limits
    # The page and the command match faces by the same rule, which the document states.
    assert constants["MIN_OVERLAP"] == MIN_FACE_OVERLAP
    assert f"overlaps by {MIN_FACE_OVERLAP:.0%}".replace("%", " %") in TEXT


def test_the_size_of_pictures() -> None:
    assert f"at most {MAX_PICTURE_SIDE} pixels" in TEXT
