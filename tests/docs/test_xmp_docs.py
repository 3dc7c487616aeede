"""docs/xmp.md lists what a sidecar gets."""

from __future__ import annotations

import re

from batch.xmp import FaceRegion, update_sidecar
from tests.conftest import REPOSITORY
from tests.support.sidecars import LIGHTROOM, make_content

TEXT = (REPOSITORY / "docs" / "xmp.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`[^|]+`) \| (.+) \| [^|]+ \|$", TEXT, re.MULTILINE)


def test_the_table_has_all_properties_and_their_values() -> None:
    listed = {name for names, _ in ROWS for name in re.findall("`([^`]+)`", names)}
    face = FaceRegion("happy", 600, 100, 200, 240)
    content = make_content("happy", faces=(face,))
    written = update_sidecar(None, content).decode()
    # The user's keyword gives the record of kept ones.
    kept = update_sidecar(LIGHTROOM, content).decode()
    # Properties are the children of descriptions, three deep.
    found = set(re.findall(r"^   <([\w-]+:\w+)[ >]", written + kept, re.MULTILINE))
    assert listed == {name for name in found if not name.startswith(("xmpMM:", "crs:"))}
    values = [
        value.replace("\\|", "|") for _, text in ROWS for value in re.findall("`(.+?)`", text)
    ]
    assert {"happy", "expression|happy", "expression/happy"} <= set(values)
    for value in values:
        assert f">{value}<" in written
