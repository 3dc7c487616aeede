"""The kinds of files that are broken: how a case of each is made and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tests.fuzz.cases import Case


@dataclass(frozen=True)
class FuzzKind:
    """A kind of files from outside.

    Attributes:
        name: what it is called.
        make: names the function that makes a case of a seed and a number, ``module:function``.
        check: names the function that uses a case as the program does, and tells in a word how it
            came out.
        share: how many of 100 cases are of this kind.
        at_once: cases for one process, which takes some seconds.
    """

    name: str
    make: str
    check: str
    share: int = 0
    at_once: int = 1000

    def load(self) -> tuple[Callable[[int, int], Case], Callable[[Case], str]]:
        """Import both functions."""
        return _function(self.make), _function(self.check)


def _kind(name: str, share: int, at_once: int) -> FuzzKind:
    module = f"tests.fuzz.{name}"
    return FuzzKind(name, f"{module}:make", f"{module}:check", share, at_once)


KINDS = {
    kind.name: kind
    for kind in (
        FuzzKind(
            "photos", "tests.fuzz.cases:case", "tests.fuzz.contained:check_contained", 50, 4000
        ),
        _kind("archives", 10, 2000),
        _kind("lists", 6, 4000),
        _kind("journals", 8, 2000),
        _kind("reports", 12, 2000),
        _kind("reviews", 6, 10_000),
        _kind("records", 5, 3000),
        FuzzKind("models", "tests.fuzz.models:model_case", "tests.fuzz.models:check_model", 3, 500),
    )
}


def split_cases(number: int) -> dict[str, int]:
    """Split a number of cases over all kinds."""
    split = {name: number * kind.share // 100 for name, kind in KINDS.items()}
    split["photos"] += number - sum(split.values())
    return split


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
