"""The page as one HTML file that needs nothing beside it and asks nothing of a network."""

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
from batch.page.content import Content, describe_run
from batch.page.gather import PageReport, Totals, digest_report, read_page_report
from batch.page.history import Changes, Edition, find_changes, find_publish_time, read_editions
from batch.page.thumbnails import PHOTO_GONE, PagePicture, choose_least_certain, make_pictures
from batch.path_text import path_text
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
    "answers.js",
    "choices.js",
    "query.js",
    "window.js",
    "item.js",
    "closeup.js",
    "summary.js",
    "reviewfile.js",
    "keys.js",
    "main.js",
)
# How hard the rows are compressed, 1 to 9: more takes longer and saves little.
COMPRESSION = 6


def build_document(content: Content, plots: Mapping[str, str]) -> bytes:
    """Write the page, in UTF-8.

    ``plots`` has SVG for ``labels``, ``confidence`` and ``history``, empty where there is none.
    Nothing of the report but its labels, in the plots, is in the file as markup: rows and pictures
    are base64, which cannot end an element.
    """
    script = _join_scripts()
    page = Template(_read_resource("page.html")).substitute(
        policy=_policy_text(script),
        style="\n".join(map(_read_resource, STYLES)),
        script=script,
        rows=_pack_rows(content),
        pictures=json.dumps([b64encode(data).decode() for data in content.picture_files()]),
        **{f"{name}_plot": plots[name] for name in ("labels", "confidence", "history")},
    )
    return page.encode()


def _policy_text(script: str) -> str:
    """Forbid all but this script, inline styles and pictures that the page itself holds.

    Content Security Policy Level 3: https://www.w3.org/TR/CSP3/
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
    # With no time in it, the same report gives the same page.
    return b64encode(gzip.compress(text.encode(), COMPRESSION, mtime=0)).decode()


def _read_resource(name: str) -> str:
    return files("batch.page").joinpath(name).read_text(encoding="utf-8")


# == Making the page of a report, from the report to the published file.

SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class PageJob:
    """What page is wanted: of which report, where it goes, and what it is to show.

    ``photos`` is the folder in which the report's relative paths begin, ``gallery`` the most
    pictures, ``previous`` earlier reports of the same photos.
    """

    report: Path
    output: str
    photos: Path
    gallery: int
    previous: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PageSummary:
    """A page that was published, in numbers.

    ``rows`` are in it, ``of`` so many in the report; ``gone`` counts photos that should have a
    picture and are not there; ``size`` is in bytes.
    """

    rows: int
    of: int
    pictures: int
    gone: int
    size: int


def make_page(request: PageJob, stdout: BinaryIO) -> PageSummary:
    """Make a report's page and publish it, whole or not at all.

    Raises:
        ReportError: the report or an earlier one is missing, no report, or damaged.
        UsageError: earlier reports can't be compared, or a package or a better name is missing.
        OutputError: the page can't be written.
        LockedError: another process writes the page.
        WorkerError: the processes that decode photos can't be started.
    """
    check_page_output(request.output)
    reports = (request.report, *request.previous)
    check_not_input(request.output, "a report that the page is to show", *map(os.fspath, reports))
    check_outside_datasets(request.output, *reports)
    with hold_lock(request.output):
        return _make_page(request, stdout)


def _make_page(request: PageJob, stdout: BinaryIO) -> PageSummary:
    draw = _import_draw_plots()
    digest, *_ = map(digest_report, (request.report, *request.previous))
    content = _build_content(request, digest)
    page = build_document(content, draw(content.totals, content.editions))
    if digest_report(request.report) != digest:
        raise ReportError(
            f"report {path_text(request.report)} was replaced meanwhile", "make the page again"
        )
    with (
        publish_output(request.output, stdout) as stream,
        translate_write_errors(describe_output(request.output)),
    ):
        stream.write(page)
    shown = content.pictures.values()
    return PageSummary(
        rows=len(content.entries),
        of=content.totals.rows,
        pictures=sum(bool(picture.data) for picture in shown),
        gone=sum(picture.note == PHOTO_GONE for picture in shown),
        size=len(page),
    )


def check_page_output(output: str) -> None:
    """Find out before the work whether the page can be published.

    Raises:
        UsageError: its name is not that of a page.
        OutputError: it is a folder, or its folder is missing or can't be written.
    """
    if not is_streamed(output) and Path(output).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{describe_output(output)} is to be a page", "end its name in .html")
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


def _build_content(request: PageJob, digest: str) -> Content:
    read = read_page_report(request.report)
    editions, changes = _read_history(request, read)
    facts, warnings = describe_run(request.report)
    return Content(
        title=path_text(Path(request.report.name)),
        digest=digest,
        per_face=read.saved.per_face,
        totals=read.totals,
        reasons=read.reasons,
        entries=read.rows,
        editions=editions,
        changes=changes,
        facts=facts,
        warnings=warnings,
        pictures=_make_pictures(request, read),
    )


def _read_history(request: PageJob, read: PageReport) -> tuple[Sequence[Edition], Changes | None]:
    earlier = read_editions(request.previous, read.saved)
    if not earlier:
        return (), None
    last, since = list(earlier.items())[-1]
    kept = {(entry.row.path, entry.row.face): entry for entry in read.rows}
    title = path_text(Path(request.report.name))
    now = Edition(title, find_publish_time(request.report), read.totals)
    return (*earlier.values(), now), find_changes(last, since, request.report, kept)


def _make_pictures(request: PageJob, read: PageReport) -> Mapping[int, PagePicture]:
    chosen = choose_least_certain(read.rows, request.gallery)
    made = find_publish_time(request.report)
    found = make_pictures(chosen, request.photos, read.saved.per_face, made)
    return {entry.number: picture for entry, picture in found}
