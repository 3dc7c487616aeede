"""Counts of what was applied, and the messages about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from batch.applying.transfer import FOREIGN, GONE, LAST_COPY, Refusal, show_path
from batch.errors import ExitCode
from batch.log import count_text
from batch.path_text import printable_text
from batch.tally import FAILURE_CHARS, MAX_NAMED

# What was done, by verb, around a number; with a noun for what is not a photo.
_DONE = {
    "copy": "{} copied",
    "link": "{} linked",
    "move": "{} moved",
    "rename": "{} renamed",
    "replace": "{} replaced",
    "remove": "{} removed",
    "write": "{} written",
    "clear": "labels removed from {}",
    "move sidecar": "{} moved",
    "undo": "{} undone",
}
_NOUNS = {"write": "sidecar", "clear": "sidecar", "move sidecar": "sidecar", "undo": "operation"}
_PLANS = {
    "write": "write sidecars of",
    "clear": "remove labels from sidecars of",
    "move sidecar": "move sidecars of",
}
MAX_NAMED_LABELS = 10
# Reasons to skip what was made for which the files are named.
NAMED_REASONS = (FOREIGN, LAST_COPY)


@dataclass
class Summary:
    """Counts of photos by what was done with them.

    Attributes:
        dry_run: whether everything was only planned.
        undone_run: description of the runs that are undone; empty if a report is applied.
        photos: photos of the report.
        matching: photos that matched.
        done: operations by verb and label.
        plans_list: whether a list was only planned.
        listed: photos in the list, by label.
        unchanged: photos for which nothing was left to do, once per action.
        unmatched: copies, links and sidecars of photos that do not match any more.
        skipped: photos that were skipped, by reason.
        left: the first files that are left as others changed them, or as last copies.
        statuses: photos by the statuses of their rows.
        warnings: consequences of what is done that may not be wanted.
        failed: photos for which something failed, by reason.
        named: the first failures, each with its photo.
        examples: the first things that are planned: verb, photo and target.
        repaired: operations of a killed run that were finished.
    """

    dry_run: bool
    undone_run: str = ""
    photos: int = 0
    matching: int = 0
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    plans_list: bool = False
    listed: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    unmatched: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
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

    def add_skipped(self, reason: str, made: Path | None) -> None:
        """Count what is skipped, and name a file that was made if it needs a look."""
        self.skipped[reason] += 1
        if made is not None and reason in NAMED_REASONS and len(self.left) < MAX_NAMED:
            self.left.append(f"{show_path(made)} ({reason})")

    def add_failed(self, photo: Path, refusal: Refusal) -> None:
        """Count a failure, and name the photo if it is one of the first."""
        self.failed[refusal.reason] += 1
        if len(self.named) < MAX_NAMED:
            why = str(refusal)
            if len(why) > FAILURE_CHARS:
                why = f"{why[: FAILURE_CHARS - 3]}..."
            self.named.append(f"{show_path(photo)}: {why}")

    def describe(self) -> Iterator[str]:
        """Yield the lines of the summary."""
        if self.undone_run:
            yield f"{'would undo' if self.dry_run else 'undoing'} {self.undone_run}"
        if self.listed:
            by_label, count = _count_labels(self.listed), self.listed.total()
            would = f"would list {count_text(count, 'photo')}" if self.plans_list else ""
            yield f"{would or f'{count:,} listed'} ({by_label})"
        for verb, labels in self._count_verbs().items():
            count, by_label = labels.total(), _count_labels(labels)
            if verb == "clear":  # its labels are the keywords above the labels
                by_label = f"below the keyword {by_label}"
            if self.dry_run:
                counted = count_text(count, "operation" if verb == "undo" else "photo")
                yield f"would {_PLANS.get(verb, verb)} {counted} ({by_label})"
            else:
                noun = _NOUNS.get(verb)
                counted = count_text(count, noun) if noun else f"{count:,}"
                yield f"{_DONE[verb].format(counted)} ({by_label})"
        if self.dry_run:
            yield from self._describe_examples()
        if self.repaired:
            yield f"{count_text(self.repaired, 'operation')} of a killed run finished"
        if not self.undone_run:
            photos = count_text(self.photos, "photo")
            match = "matches" if self.matching == 1 else "match"
            yield f"{photos} in the report, {self.matching:,} {match}; {self._rest_text()}"
        if self.photos and not self.matching:
            statuses = _count_labels(self.statuses)
            yield f"no photo matches; photos by status: {statuses}; see --status"
        if self.left:
            more = sum(self.skipped[reason] for reason in NAMED_REASONS) - len(self.left)
            yield f"left: {'; '.join(self.left)}{f' and {more:,} more' if more else ''}"
        if self.done:
            yield from self.warnings
        if self.failed:
            yield self.describe_failures()
        if self.failed[GONE] and not self.undone_run:
            yield from self._describe_gone()

    def describe_failures(self) -> str:
        """Count the failures by reason, and name the first ones."""
        reasons = ", ".join(f"{n:,} {why}" for why, n in self.failed.most_common())
        more = self.failed.total() - len(self.named)
        named = "; ".join(self.named) + (f" and {more:,} more" if more else "")
        return f"{self.failed.total():,} failed ({reasons}): {named}"

    def count(self, verb: str) -> int:
        """Count the operations of a verb."""
        return sum(count for (one, _), count in self.done.items() if one == verb)

    def _describe_gone(self) -> Iterator[str]:
        if set(self.failed) == {GONE} and not (self.done or self.unchanged or self.listed):
            yield (
                "all photos are gone: if the relative paths in the report begin at another folder, "
                "name it with --photos; if the photos were moved since, or moved back by --undo, "
                "label them again"
            )
        else:
            yield "photos that were moved since, or moved back by --undo, must be labelled again"

    def _describe_examples(self) -> Iterator[str]:
        for verb, photo, target in self.examples:
            goal = "" if target is None else f" -> {show_path(target)}"
            yield f"  {verb} {show_path(photo)}{goal}"
        more = self.done.total() - len(self.examples)
        if more > 0:
            yield f"  and {more:,} more"

    def _rest_text(self) -> str:
        parts = [f"{self.unchanged:,} done already"]
        if self.unmatched:
            is_one = self.unmatched == 1
            verbs = (
                "does not match any more and stays" if is_one else "do not match any more and stay"
            )
            parts.append(f"{self.unmatched:,} {verbs}: see --prune")
        if self.skipped:
            reasons = ", ".join(f"{n:,} {why}" for why, n in self.skipped.most_common())
            parts.append(f"{self.skipped.total():,} skipped ({reasons})")
        return "; ".join(parts)

    def _count_verbs(self) -> dict[str, Counter[str]]:
        """Count the operations by verb, in the order of the verbs, and label."""
        counts: dict[str, Counter[str]] = {}
        for verb in _DONE:
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
