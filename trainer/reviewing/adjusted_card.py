"""The card of an adjusted model: what was changed, what was measured, and the card before it."""

from __future__ import annotations

import re

from batch.models.model import Model
from trainer.evaluation.tables import BIASED_SAMPLE_NOTE
from trainer.exporting.card import markdown_table, write_results
from trainer.reviewing.adjust import AdjustedModel

ORIGINAL_SECTION = """## Before it was adjusted

What follows is of the model before anything was adjusted; no figure in it was measured again.

"""
HEADING_PATTERN = re.compile(r"^(#+ )", flags=re.MULTILINE)


def write_adjusted_card(adjusted: AdjustedModel, before: Model, card: str) -> str:
    """Write the Markdown card of a model that was adjusted; ``card`` is the one of ``before``."""
    spec = adjusted.spec
    facts = (
        ("Version", spec.version),
        ("Created", spec.created),
        ("SHA-256", f"`{adjusted.digest}`"),
        ("Adjusted from", f"version {before.spec.version}, SHA-256 `{before.digest}`"),
    )
    return (
        f"# {spec.name}\n\nA model whose last layer was adjusted to answers that people reviewed. "
        f"All else is as it was, thresholds included.\n\n"
        f"{markdown_table(('', ''), facts)}\n\n"
        f"## What it learnt from\n\n{adjusted.learnt:,} reviewed answers, and its own answers on "
        f"{adjusted.kept:,} other photos, by logistic regression with a decay of "
        f"{adjusted.decay:g} towards the weights that it had. Fingerprint: "
        f"`{spec.data_fingerprint}`.\n\n"
        f"{write_results(adjusted.test, 'held-out')}\n\n{BIASED_SAMPLE_NOTE}\n\n"
        f"{ORIGINAL_SECTION}{_original_card(card)}"
    )


def _original_card(card: str) -> str:
    """Give the card from before the first adjustment, two levels deeper."""
    _, found, first = card.partition(ORIGINAL_SECTION)
    return first if found else HEADING_PATTERN.sub("##\\1", card)
