"""Makes the page of a report: one self-contained HTML file that loads nothing from a network."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import BinaryIO

from batch.errors import ReportError, UsageError
from batch.files.lock import hold_lock
from batch.files.publish import is_streamed
from batch.os_errors import translate_write_errors
from batch.page.compact import list_folders, pack_digests
from batch.page.content import Content, describe_run
from batch.page.gather import (
    PageReport,
    Totals,
    digest_report,
    identify_series,
    read_page_report,
)
from batch.page.history import (
    Changes,
    Edition,
    KeptEditions,
    find_changes,
    find_publish_time,
    read_editions,
    read_kept_editions,
)
from batch.page.links import find_link_starts, find_secret_links
from batch.page.recorded_answers import RecordedAnswers, read_recorded_answers
from batch.page.review_sets import choose_to_learn_from, find_sample
from batch.page.thumbnails import PHOTO_GONE, PagePicture, choose_pictured, make_pictures
from batch.path_text import path_text
from batch.records import ABSTAIN_OUTPUTS
from batch.reports.dataset_place import check_outside_datasets
from batch.reports.output import check_destination, check_not_input, describe_output, publish_output

STYLES = (
    "colours.css",
    "base.css",
    "summary.css",
    "photos.css",
    "items.css",
    "dialogs.css",
    "phone.css",
)
SCRIPTS = (
    "dom.js",
    "data.js",
    "matching.js",
    "forgotten.js",
    "answers.js",
    "choices.js",
    "query.js",
    "window.js",
    "item.js",
    "closeup.js",
    "summary.js",
    "reviewsets.js",
    "csv.js",
    "reviewfile.js",
    "keys.js",
    "main.js",
)
# gzip level of the rows, 1 to 9; higher levels are slower and save little.
COMPRESSION = 6
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class PageJob:
    """A request for a page.

    Attributes:
        report: the report, a file or the folder of a dataset.
        output: path of the page, or ``-`` for standard output.
        photos: base folder of the relative paths in the report.
        gallery: largest number of pictures.
        previous: earlier reports of the same photos; empty for those in the history folder.
    """

    report: Path
    output: str
    photos: Path
    gallery: int
    previous: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PageSummary:
    """Counts of a published page.

    Attributes:
        rows: rows in the page.
        report_rows: rows in the report.
        pictures: pictures in the page.
        gone: photos without a picture because they no longer exist.
        size: size of the page in bytes.
        history: what is shown of the history folder; empty without one.
        skipped: why reports in the history folder are not shown.
    """

    rows: int
    report_rows: int
    pictures: int
    gone: int
    size: int
    history: str
    skipped: Sequence[str]


def make_page(request: PageJob, stdout: BinaryIO) -> PageSummary:
    """Make the page of a report and publish it in one step.

    Raises:
        ReportError: the report or an earlier one is missing, damaged, or not a report.
        ReviewError: the reviews file beside the report is damaged.
        UsageError: an earlier report can't be compared, a package is not installed, or the name of
            the page does not end in .html.
        OutputError: the page can't be written.
        LockedError: another process writes the page.
        WorkerError: the workers that decode photos can't be started.
    """
    check_page_output(request.output)
    reports = (request.report, *request.previous)
    check_not_input(
        request.output, "a report that the page shows", *map(os.fspath, reports), kind="page"
    )
    check_outside_datasets(request.output, *reports)
    with hold_lock(request.output):
        return _make_page(request, stdout)


def _make_page(request: PageJob, stdout: BinaryIO) -> PageSummary:
    draw = _import_draw_plots()
    digest, *_ = map(digest_report, (request.report, *request.previous))
    content, kept = _build_content(request, digest)
    page = build_document(content, draw(content.totals, content.editions))
    if digest_report(request.report) != digest:
        raise ReportError(
            f"report {path_text(request.report)} was replaced while it was read",
            "make the page again",
        )
    with (
        publish_output(request.output, stdout) as stream,
        translate_write_errors(describe_output(request.output)),
    ):
        stream.write(page)
    shown = content.pictures.values()
    return PageSummary(
        rows=len(content.rows),
        report_rows=content.totals.rows,
        pictures=sum(bool(picture.data) for picture in shown),
        gone=sum(picture.note == PHOTO_GONE for picture in shown),
        size=len(page),
        history=kept.describe() if kept else "",
        skipped=kept.skipped if kept else (),
    )


def check_page_output(output: str) -> None:
    """Check before the work that the page can be published.

    Raises:
        UsageError: its name does not end in .html.
        OutputError: the path is a folder, or its folder is missing or not writable.
    """
    if not is_streamed(output) and Path(output).suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"page {path_text(Path(output))} is not an HTML file", "end its name in .html"
        )
    check_destination(output)


def _import_draw_plots() -> Callable[[Totals, Sequence[Edition]], dict[str, str]]:
    try:
        from batch.page.plots import draw_plots
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the plots of a page need {error.name}",
            "install it: pip install 'batch-label[report]'",
        ) from error
    return draw_plots


def _build_content(request: PageJob, digest: str) -> tuple[Content, KeptEditions | None]:
    """Gather the data of the page.

    Returns:
        The data, and the history folder's reports; None if ``request`` names earlier reports.
    """
    read = read_page_report(request.report)
    kept = None if request.previous else read_kept_editions(request.report, read.saved)
    earlier = kept.editions if kept else read_editions(request.previous, read.saved)
    editions, changes = _find_history(request, read, earlier)
    facts, warnings = describe_run(request.report)
    recorded = read_recorded_answers(
        request.report, read.rows, [*read.totals.labels, *ABSTAIN_OUTPUTS]
    )
    links = find_link_starts(list_folders(read.rows), request.photos, request.output)
    is_complete = len(read.rows) == read.totals.rows
    sample = find_sample(read.rows, recorded.by_row, is_complete)
    pictures = _make_pictures(request, read, recorded, sample)
    content = Content(
        title=path_text(Path(request.report.name)),
        digest=digest,
        series=identify_series(request.report),
        per_face=read.saved.per_face,
        totals=read.totals,
        reasons=read.reasons,
        rows=read.rows,
        editions=editions,
        changes=changes,
        facts=[*facts, *recorded.list_facts()],
        warnings=[*warnings, *recorded.warnings],
        pictures=pictures,
        sample=sample,
        chosen=choose_to_learn_from(read.rows, pictures, recorded.by_row),
        recorded=recorded,
        links=links,
        unlinked=find_secret_links(read.rows),
    )
    return content, kept


def _find_history(
    request: PageJob, read: PageReport, earlier: Mapping[Path, Edition]
) -> tuple[Sequence[Edition], Changes | None]:
    if not earlier:
        return (), None
    last, since = list(earlier.items())[-1]
    kept = {(row.saved.path, row.saved.face): row for row in read.rows}
    title = path_text(Path(request.report.name))
    now = Edition(title, find_publish_time(request.report), read.totals)
    return (*earlier.values(), now), find_changes(last, since, request.report, kept)


def _make_pictures(
    request: PageJob, read: PageReport, recorded: RecordedAnswers, sample: Sequence[int]
) -> Mapping[int, PagePicture]:
    reviewed = {index: answer.position for index, answer in recorded.by_row.items()}
    chosen = choose_pictured(read.rows, request.gallery, reviewed, sample)
    made = find_publish_time(request.report)
    pictures = make_pictures(chosen, request.photos, read.saved.per_face, made)
    return {row.number: picture for row, picture in pictures}


def build_document(content: Content, plots: Mapping[str, str]) -> bytes:
    """Build the HTML document.

    Labels in the plots are the only text of the report in the markup. Rows and pictures are base64,
    which can't close an element.

    Args:
        content: the data of the page.
        plots: SVG elements ``labels``, ``confidence`` and ``history``, or empty texts.

    Returns:
        The document in UTF-8.
    """
    script = _join_scripts()
    page = Template(_read_resource("page.html")).substitute(
        policy=_policy_text(script),
        style="\n".join(map(_read_resource, STYLES)),
        script=script,
        rows=_pack_rows(content),
        digests=pack_digests(content.rows),
        pictures=json.dumps([b64encode(data).decode() for data in content.picture_files()]),
        **{f"{name}_plot": plots[name] for name in ("labels", "confidence", "history")},
    )
    return page.encode()


def _policy_text(script: str) -> str:
    """Build a policy that allows only this script, inline styles and embedded pictures.

    Source: Content Security Policy Level 3, https://www.w3.org/TR/CSP3/
    """
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _join_scripts() -> str:
    body = "\n".join(map(_read_resource, SCRIPTS))
    return f'(() => {{\n"use strict";\n{body}}})();'


def _pack_rows(content: Content) -> str:
    text = json.dumps(content.to_json(), ensure_ascii=False, separators=(",", ":"))
    # Without a time stamp, the same report gives the same page.
    return b64encode(gzip.compress(text.encode(), COMPRESSION, mtime=0)).decode()


def _read_resource(name: str) -> str:
    return files("batch.page").joinpath(name).read_text(encoding="utf-8")
