"""Counts of what was applied, and the messages about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from batch.applying.transfer import Refusal
from batch.errors import ExitCode
from batch.log import count_text
from batch.path_text import path_text, printable_text
from batch.tally import FAILURE_CHARS, MAX_NAMED

# Verbs and their past participles.
PARTICIPLES = {
    "copy": "copied",
    "link": "linked",
    "move": "moved",
    "rename": "renamed",
    "replace": "replaced",
    "remove": "removed",
    "write": "sidecars written",
    "clear": "sidecars cleared",
    "move sidecar": "sidecars moved",
    "undo": "operations undone",
}
_PLANS = {
    "write": "write sidecars of",
    "clear": "clear sidecars of",
    "move sidecar": "move sidecars of",
    "undo": "undo operations on",
}
MAX_NAMED_LABELS = 10


@dataclass
class Summary:
    """Counts of photos by what was done with them.

    Attributes:
        dry_run: whether everything was only planned.
        run: number of the run that is undone; None if a report is applied.
        photos: photos of the report.
        matching: photos that matched.
        done: operations by verb and label.
        plans_list: whether a list was only planned.
        listed: photos in the list, by label.
        unchanged: photos for which nothing was left to do, once per action.
        unmatched: copies, links and sidecars of photos that do not match any more.
        skipped: photos that were skipped, by reason.
        failed: photos for which something failed, by reason.
        named: the first failures, each with its photo.
        examples: the first things that are planned: verb, photo and target.
        repaired: operations of a killed run that were finished.
    """

    dry_run: bool
    run: int | None = None
    photos: int = 0
    matching: int = 0
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    plans_list: bool = False
    listed: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    unmatched: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)
    examples: list[tuple[str, Path, Path | None]] = field(default_factory=list)
    repaired: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """The exit code: 3 if something failed."""
        return ExitCode.INCOMPLETE if self.failed else ExitCode.OK

    def add_done(self, verb: str, label: str, photo: Path, target: Path | None) -> None:
        """Count an operation; an empty verb is a part of another one."""
        if verb:
            self.done[verb, label] += 1
            if len(self.examples) < MAX_NAMED:
                self.examples.append((verb, photo, target))

    def add_failed(self, photo: str, refusal: Refusal) -> None:
        """Count a failure, and name the photo if it is one of the first."""
        self.failed[refusal.reason] += 1
        if len(self.named) < MAX_NAMED:
            why = str(refusal)
            if len(why) > FAILURE_CHARS:
                why = f"{why[: FAILURE_CHARS - 3]}..."
            self.named.append(f"{photo}: {why}")

    def describe(self) -> Iterator[str]:
        """Yield the lines of the summary."""
        if self.listed:
            by_label, count = _count_labels(self.listed), self.listed.total()
            would = f"would list {count_text(count, 'photo')}" if self.plans_list else ""
            yield f"{would or f'{count:,} listed'} ({by_label})"
        for verb, labels in self._count_verbs().items():
            count, by_label = labels.total(), _count_labels(labels)
            if self.dry_run:
                yield f"would {_PLANS.get(verb, verb)} {count_text(count, 'photo')} ({by_label})"
            else:
                yield f"{count:,} {PARTICIPLES[verb]} ({by_label})"
        if self.dry_run:
            yield from self._describe_examples()
        if self.repaired:
            yield f"{count_text(self.repaired, 'operation')} of a killed run finished"
        if self.run is None:
            photos = count_text(self.photos, "photo")
            yield f"{photos} in the report, {self.matching:,} match; {self._rest_text()}"
        if self.failed:
            yield self.describe_failures()

    def describe_failures(self) -> str:
        """Count the failures by reason, and name the first ones."""
        reasons = ", ".join(f"{n:,} {why}" for why, n in self.failed.most_common())
        more = self.failed.total() - len(self.named)
        named = "; ".join(self.named) + (f" and {more:,} more" if more else "")
        return f"{self.failed.total():,} failed ({reasons}): {named}"

    def count(self, verb: str) -> int:
        """Count the operations of a verb."""
        return sum(count for (one, _), count in self.done.items() if one == verb)

    def _describe_examples(self) -> Iterator[str]:
        for verb, photo, target in self.examples:
            goal = "" if target is None else f" -> {_shorten(target)}"
            yield f"  {verb} {_shorten(photo)}{goal}"
        more = self.done.total() - len(self.examples)
        if more > 0:
            yield f"  and {more:,} more"

    def _rest_text(self) -> str:
        parts = [f"{self.unchanged:,} done already"]
        if self.unmatched:
            parts.append(f"{self.unmatched:,} do not match any more and stay: see --prune")
        if self.skipped:
            reasons = ", ".join(f"{n:,} {why}" for why, n in self.skipped.most_common())
            parts.append(f"{self.skipped.total():,} skipped ({reasons})")
        return "; ".join(parts)

    def _count_verbs(self) -> dict[str, Counter[str]]:
        """Count the operations by verb, in the order of the verbs, and label."""
        counts: dict[str, Counter[str]] = {}
        for verb in PARTICIPLES:
            labels = Counter({label: n for (one, label), n in self.done.items() if one == verb})
            if labels:
                counts[verb] = labels
        return counts


def _count_labels(labels: Counter[str]) -> str:
    """Count photos by label: ``happy 12, sad 3``."""
    order = sorted(labels.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{printable_text(label)} {n:,}" for label, n in order[:MAX_NAMED_LABELS]]
    rest = sum(n for _, n in order[MAX_NAMED_LABELS:])
    return ", ".join([*shown, *([f"others {rest:,}"] if rest else [])])


def _shorten(path: Path) -> str:
    """Write a path, relative to the current folder if it is below it."""
    with suppress(ValueError, OSError):  # elsewhere, or the current folder is gone
        return path_text(path.relative_to(Path.cwd()))
    return path_text(path)
