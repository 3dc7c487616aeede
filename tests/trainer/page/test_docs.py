"""The section on the page in docs/training.md against the code."""

from __future__ import annotations

import re

from tests.support.trainer_data import REPOSITORY
from trainer.evaluation.tables import MIN_SAMPLES
from trainer.page.content import MAX_PICTURES
from trainer.page.make import JUDGES, PAGE_FILE, PROBLEMS_FILE
from trainer.page.problems import (
    COLUMNS,
    MAX_COMPARED,
    MAX_COMPARED_BYTES,
    SKIPPED,
    TWO_LABELS,
    WRONG_LABEL,
)
from trainer.page.wrong_labels import FEATURE_MODELS, FOLDS, MIN_JUDGE_ACCURACY

TRAINING = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
SECTION = TRAINING.split("\n### The page\n")[1].split("\n## ")[0]
TEXT = " ".join(SECTION.split())


def test_the_columns_and_values_of_the_list_are_documented() -> None:
    table = SECTION.split("| Column | Meaning |")[1].split("\n\n")[0]
    names = re.findall(r"`([a-z]+)`", " ".join(re.findall(r"^\| (`[^|]+)\|", table, re.MULTILINE)))
    assert tuple(names) == COLUMNS
    for value in (PAGE_FILE, PROBLEMS_FILE, WRONG_LABEL, TWO_LABELS, SKIPPED, *JUDGES):
        assert f"`{value}`" in TEXT
    for model in FEATURE_MODELS.values():
        assert f"`{model}`" in TEXT


def test_the_numbers_are_those_of_the_code() -> None:
    for text in (
        f"The {MAX_PICTURES} wrong answers",
        f"fewer than {MIN_SAMPLES} held-out samples",
        f"more than {MAX_COMPARED:,} samples or {MAX_COMPARED_BYTES / 1024**3:.0f} GiB",
        f"fewer than {100 * MIN_JUDGE_ACCURACY:.0f} % of the labels",
    ):
        assert text in TEXT
    assert FOLDS == 5
    assert "with five folds" in TEXT
