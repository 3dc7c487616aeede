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
from batch.files.lock import locked
from batch.files.publish import is_streamed, writing
from batch.page.content import Content, about_run
from batch.page.gather import Gathered, Totals, digest_of, gather
from batch.page.history import Changes, Edition, changes_between, published, read_editions
from batch.page.thumbnails import GONE, Picture, least_certain, pictures
from batch.path_text import path_text
from batch.reports.dataset_place import check_outside
from batch.reports.output import called, check_apart, check_place, publishing

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


def document(content: Content, plots: Mapping[str, str]) -> bytes:
    """Write the page, in UTF-8.

    ``plots`` has SVG for ``labels``, ``confidence`` and ``history``, empty where there is none.
    Nothing of the report but its labels, in the plots, is in the file as markup: rows and pictures
    are base64, which cannot end an element.
    """
    script = _script()
    page = Template(_file("page.html")).substitute(
        policy=_policy(script),
        style="\n".join(map(_file, STYLES)),
        script=script,
        rows=_packed(content),
        pictures=json.dumps([b64encode(data).decode() for data in content.picture_files()]),
        **{f"{name}_plot": plots[name] for name in ("labels", "confidence", "history")},
    )
    return page.encode()


def _policy(script: str) -> str:
    """Forbid all but this script, inline styles and pictures that the page itself holds.

    Content Security Policy Level 3: https://www.w3.org/TR/CSP3/
    """
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _script() -> str:
    body = "\n".join(map(_file, SCRIPTS))
    return f'(() => {{\n"use strict";\n{body}}})();'


def _packed(content: Content) -> str:
    text = json.dumps(content.as_json(), ensure_ascii=False, separators=(",", ":"))
    # With no time in it, the same report gives the same page.
    return b64encode(gzip.compress(text.encode(), COMPRESSION, mtime=0)).decode()


def _file(name: str) -> str:
    return files("batch.page").joinpath(name).read_text(encoding="utf-8")


# == Making the page of a report, from the report to the published file.

SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class Request:
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
class Made:
    """A page that was published, in numbers.

    ``rows`` are in it, ``of`` so many in the report; ``gone`` counts photos that should have a
    picture and are not there; ``size`` is in bytes.
    """

    rows: int
    of: int
    pictures: int
    gone: int
    size: int


def make_page(request: Request, stdout: BinaryIO) -> Made:
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
    check_apart(request.output, "a report that the page is to show", *map(os.fspath, reports))
    check_outside(request.output, *reports)
    with locked(request.output):
        return _make(request, stdout)


def _make(request: Request, stdout: BinaryIO) -> Made:
    draw = _drawing()
    digest, *_ = map(digest_of, (request.report, *request.previous))
    content = _content(request, digest)
    page = document(content, draw(content.totals, content.editions))
    if digest_of(request.report) != digest:
        raise ReportError(
            f"report {path_text(request.report)} was replaced meanwhile", "make the page again"
        )
    with publishing(request.output, stdout) as stream, writing(called(request.output)):
        stream.write(page)
    shown = content.pictures.values()
    return Made(
        rows=len(content.entries),
        of=content.totals.rows,
        pictures=sum(bool(picture.data) for picture in shown),
        gone=sum(picture.note == GONE for picture in shown),
        size=len(page),
    )


def check_page_output(output: str) -> None:
    """Find out before the work whether the page can be published.

    Raises:
        UsageError: its name is not that of a page.
        OutputError: it is a folder, or its folder is missing or can't be written.
    """
    if not is_streamed(output) and Path(output).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{called(output)} is to be a page", "end its name in .html")
    check_place(output)


def _drawing() -> Callable[[Totals, Sequence[Edition]], dict[str, str]]:
    try:
        from batch.page.plots import draw
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the plots of a page need {error.name}",
            "install it: pip install 'batch-label[report]'",
        ) from error
    return draw


def _content(request: Request, digest: str) -> Content:
    read = gather(request.report)
    editions, changes = _history(request, read)
    facts, warnings = about_run(request.report)
    return Content(
        title=path_text(Path(request.report.name)),
        digest=digest,
        per_face=read.saved.per_face,
        totals=read.totals,
        reasons=read.reasons,
        entries=read.entries,
        editions=editions,
        changes=changes,
        facts=facts,
        warnings=warnings,
        pictures=_pictures(request, read),
    )


def _history(request: Request, read: Gathered) -> tuple[Sequence[Edition], Changes | None]:
    earlier = read_editions(request.previous, read.saved)
    if not earlier:
        return (), None
    last, since = list(earlier.items())[-1]
    kept = {(entry.row.path, entry.row.face): entry for entry in read.entries}
    title = path_text(Path(request.report.name))
    now = Edition(title, published(request.report), read.totals)
    return (*earlier.values(), now), changes_between(last, since, request.report, kept)


def _pictures(request: Request, read: Gathered) -> Mapping[int, Picture]:
    chosen = least_certain(read.entries, request.gallery)
    made = published(request.report)
    found = pictures(chosen, request.photos, read.saved.per_face, made)
    return {entry.number: picture for entry, picture in found}
