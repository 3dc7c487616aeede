"""Applies reviews to a report: adds them to its reviews file, and writes the report again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from batch.errors import ReportError, UsageError
from batch.files.lock import OnWait, hold_lock
from batch.journal.path import find_url_journal_path
from batch.location import Location, Url, parse_location
from batch.os_errors import translate_write_errors
from batch.path_text import parse_printable_text, path_text
from batch.reading.fields import make_checker
from batch.reading.reviews import REVIEW_REMEDY, ReviewError, read_review_file
from batch.reading.saved import is_dataset_at, open_reader
from batch.records import ABSTAIN_OUTPUTS
from batch.reports.columns import column_names
from batch.reports.dataset import DATASET_SUFFIX, is_dataset
from batch.reports.formats import Format
from batch.reports.output import describe_output
from batch.reports.readers import record_error
from batch.reports.report import check_output, open_report, report_format
from batch.reports.tabular import Record, RecordReader
from batch.reviewing.corrections import RENAMED_REMEDY, Corrections, LabelCheck
from batch.reviewing.reviews_file import (
    NO_BOX,
    NO_SHA256,
    Addition,
    Reviews,
    find_flaw,
    find_reviews_path,
    read_reviews,
    write_reviews,
)
from batch.reviewing.sample import SampleAccuracy, measure_sample
from batch.stopping import Stop
from batch.tally import MAX_NAMED

RERUN_REMEDY = "run the command that wrote it again with this version"


@dataclass(frozen=True)
class ReviewJob:
    """A request to apply reviews to a report.

    Attributes:
        files: reviews; answers of later ones override those of earlier ones.
        report: path or URL of the report.
        reviews_of_url: the reviews file of a report at a URL; None if there is no place for it.
    """

    files: tuple[Path, ...]
    report: str
    reviews_of_url: Path | None = None


@dataclass(frozen=True)
class Applied:
    """The result of applying reviews.

    Attributes:
        reviews: the reviews file.
        additions: usable lines of the files by what became of them.
        unusable: the other lines, by the reason.
        total: answers in the reviews file.
        rows: rows of the report with a person's answer.
        summary: what was used of the reviews file, in words.
        accuracy: how often the model was right on the random sample; None without one.
    """

    reviews: Path
    additions: Mapping[Addition, int]
    unusable: Mapping[str, int]
    total: int
    rows: int
    summary: str
    accuracy: SampleAccuracy | None = None


@dataclass(frozen=True)
class _Layout:
    """The columns of a report.

    Attributes:
        outputs: the model's labels, then its abstain outputs.
        per_face: whether it has one row per face.
        located: whether it has the photos' coordinates.
    """

    outputs: tuple[str, ...]
    per_face: bool
    located: bool

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(name for name in self.outputs if name not in ABSTAIN_OUTPUTS)

    @property
    def columns(self) -> tuple[str, ...]:
        return column_names(self.outputs, self.per_face, located=self.located)


def lacks_labels(unusable: Iterable[str]) -> bool:
    """Tell whether lines can't be used because of labels that the report does not have."""
    return bool(set(unusable) - {NO_SHA256, NO_BOX})


def apply_reviews(
    job: ReviewJob, stdout: BinaryIO, stop: Stop, on_wait: OnWait | None = None
) -> Applied:
    """Add reviews to a report's reviews file, and publish the report with all of them applied.

    The reviews file is written just before the report is published: if the process is killed
    between the two, the next run or a repetition applies the reviews.

    Args:
        job: the reviews and the report.
        stdout: standard output, for a streamed report.
        stop: requests to stop.
        on_wait: as for ``hold_lock``.

    Raises:
        ReviewError: a file is not a review, or nothing in the files can be used.
        ReportError: the report is damaged, or an earlier version wrote it.
        LockedError: a run is writing the report.
        BatchLabelError: a file can't be written, or a signal arrived; the report stays as it was.
    """
    location = parse_location(job.report)
    path = find_reviews_path(job.report, job.reviews_of_url)
    if path is None:
        raise UsageError(
            f"{describe_output(job.report)} has no reviews file",
            "give a report in a file or, for one at a URL, set XDG_STATE_HOME",
        )
    output = _name_output(job.report, location)
    with _hold_report_lock(job, location, path, on_wait), open_reader(location) as reader:
        layout = _parse_layout(reader)
        check_output(output, stop.check)
        reviews = read_reviews(path) or Reviews()
        additions, unusable = _add_files(reviews, job.files, LabelCheck(layout.labels))
        corrections = Corrections(reviews, layout.labels, layout.per_face)
        rows = 0
        with open_report(
            output,
            layout.outputs,
            layout.per_face,
            stdout,
            check=stop.check_signal,
            located=layout.located,
        ) as report:
            as_text = not is_dataset(output) and report_format(output) is Format.CSV
            records = _read_records(reader, layout.columns, as_text)
            for record in stop.take_until_signal(records):
                corrected = corrections.correct_record(record)
                rows += corrected is not record
                report.copy(corrected)
            if stop.stopped_early:
                raise stop.make_error("nothing was changed: run the same command again")
            if additions:
                write_reviews(path, reviews, None if isinstance(location, Url) else location)
            report.publish()
    summary, accuracy = corrections.describe(), measure_sample(reviews)
    return Applied(path, additions, unusable, len(reviews), rows, summary, accuracy)


@contextmanager
def _hold_report_lock(
    job: ReviewJob, location: Location, path: Path, on_wait: OnWait | None
) -> Iterator[None]:
    """Hold the lock that a run of the report takes; for a URL, that of its default journal."""
    if not isinstance(location, Url):
        with hold_lock(job.report, on_wait):
            yield
        return
    with translate_write_errors(f"folder {path_text(path.parent)}", "set XDG_STATE_HOME"):
        # The XDG Base Directory spec requires this mode.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = find_url_journal_path(location.text, path.parent)
    with hold_lock(str(journal), on_wait, location.text):
        yield


def _name_output(report: str, location: Location) -> str:
    """Return the report as ``-o`` names it; a dataset ends in a slash."""
    if isinstance(location, Url) or not is_dataset_at(location) or is_dataset(report):
        return report
    return report + DATASET_SUFFIX


def _parse_layout(reader: RecordReader) -> _Layout:
    """Read the layout of a report from its columns.

    Raises:
        ReportError: they are not the columns that this version writes.
    """
    names, name = reader.columns, reader.display_name
    if not names:
        raise ReportError(f"{name} has no rows", "give a report with photos")
    if "position" in names:
        raise ReportError(
            f"{name} is the report of a shard, which is not corrected",
            "merge the shards, and give the merged report",
        )
    if "sha256" not in names:
        raise ReportError(
            f"{name} has no column `sha256`, by which photos are recognised: an earlier version "
            "wrote it",
            RERUN_REMEDY,
        )
    try:
        outputs = tuple(parse_printable_text(column[2:]) for column in names if column[:2] == "p_")
    except ValueError:
        outputs = ()
    layout = _Layout(outputs, "face" in names, "latitude" in names)
    if names != layout.columns:
        raise ReportError(
            f"{name} does not have the columns of a report of this version", RERUN_REMEDY
        )
    return layout


def _add_files(
    reviews: Reviews, files: Sequence[Path], check: LabelCheck
) -> tuple[Counter[Addition], Counter[str]]:
    """Add the lines of all files, except those that can't be used, which are counted by reason.

    Raises:
        ReviewError: a file is not a review, or no line of any file can be used.
    """
    additions, unusable = Counter[Addition](), Counter[str]()
    for file in files:
        for line in read_review_file(file):
            if flaw := find_flaw(line) or check.find_flaw(line):
                unusable[flaw] += 1
            else:
                additions[reviews.add(line)] += 1
    if unusable and not additions:
        reasons = "; ".join(reason for reason, _ in unusable.most_common(MAX_NAMED))
        raise ReviewError(
            f"no line of {', '.join(map(path_text, files))} can be used ({reasons})",
            RENAMED_REMEDY if lacks_labels(unusable) else REVIEW_REMEDY,
        )
    return additions, unusable


def _read_records(reader: RecordReader, names: tuple[str, ...], as_text: bool) -> Iterator[Record]:
    """Read checked records; ``as_text`` passes the text of CSV on unchanged.

    Raises:
        ReportError: a record is damaged; the message has its number.
    """
    check = make_checker(names, strict=not reader.is_text)
    for number, values in reader.records(names):
        try:
            checked = check(values)
        except ValueError as error:
            raise record_error(reader, number, str(error)) from error
        yield dict(zip(names, values if as_text and reader.is_text else checked, strict=True))
