"""The page as one HTML file that needs nothing beside it and asks nothing of a network."""

from __future__ import annotations

import gzip
import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from string import Template

from batch.page.content import Content

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
