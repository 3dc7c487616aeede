"""Texts and tables that the cards of trained and of imported models share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batch.records import Abstain, Region

ABSTAIN_TEXT = {
    Abstain.NEITHER: "The output `neither` is for faces and persons that show none of them.",
    Abstain.NO_PERSON: "The output `no_person` is for pictures without a person.",
}
REGION_TEXT = {Region.FACE: "a face cut out of a photo", Region.IMAGE: "a whole photo"}
USE_HEADING = "Use and misuse"
USE_TEXT = """\
Intended use: sorting your own photos by the expressions in them. The model names the expression
of a face at one moment, as other people would name it. It does not know what a person feels,
wants or will do. Do not use it to judge, monitor, rank or select people: not at work, at school,
in health care, at borders or by the police, and not to assess a person's health or honesty.

Accuracy differs between groups of people, ages, cultures, lighting and camera angles. The data
do not say who is shown, so these differences were not measured. Measure the model on photos like
your own before you rely on it."""


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
