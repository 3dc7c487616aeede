"""Broken reviews, imported by the trainer."""

from __future__ import annotations

import functools

from batch.reading.reviews import REVIEW_COLUMNS, ReviewError, is_review
from tests.fuzz.cases import (
    Case,
    check_line,
    check_message,
    get_case_folder,
    make_broken_case,
    write_case,
)
from tests.fuzz.text_mutations import BYTES, LINES
from trainer.datasets.review import (
    Review,
    read_review,
    select_photo_verdicts,
)

SHA256, HELD_OUT = "0a" * 32, "fa" * 32
ROWS = (
    f"photos/a.jpg,{SHA256},,,,,,happy,0.91,sad,",
    f"photos/b.jpg,{SHA256},1,10,20,30,40,happy,0.5,happy,",
    f"photos/b.jpg,{SHA256},2,50.5,20,30,40,,,neither,",
    f"photos/s.jpg,{HELD_OUT},,,,,,happy,0.91,sad,random",
    '"photos/c,d.jpg",,,,,,,no_person,0.7,happy,',
    "photos/gr\u00f6\u00dfe.jpg,,1,1,2,3,4,sad,0.6,not_a_person,",
    "zip://in/e.jpg::photos.zip,,,,,,,sad,0.6,no_person,",
)


@functools.cache
def make_sound_files() -> dict[str, bytes]:
    """Make reviews as saved by the page and by a spreadsheet."""
    text = "\n".join((",".join(REVIEW_COLUMNS), *ROWS, ""))
    marked = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    return {"page": text.encode(), "sheet": marked}


def make(seed: int, number: int) -> Case:
    """Make a broken review from a seed and a number."""
    return make_broken_case(seed, number, make_sound_files(), (*BYTES, *LINES, *LINES))


def check(case: Case) -> str:
    """Import a broken review."""
    file = write_case("review.csv", case.data)
    assert is_review(file) in (True, False)
    try:
        verdicts = read_review(Review((file,), get_case_folder()))
    except ReviewError as error:
        check_message(error)
        return "refused"
    for verdict in verdicts:
        assert verdict.label
        check_line(verdict.name)
        assert verdict.box is None or min(verdict.box.width, verdict.box.height) > 0
    kept, left_out = select_photo_verdicts(verdicts)
    assert len(kept) + len(left_out) == len({verdict.path for verdict in verdicts})
    return "read"
