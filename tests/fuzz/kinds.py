"""Kinds of files that are fuzzed, and the functions that make and check their cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tests.fuzz.cases import Case


@dataclass(frozen=True)
class FuzzKind:
    """A kind of input files.

    Attributes:
        name: the name of the kind.
        make: ``module:function`` that makes a case from a seed and a number.
        check: ``module:function`` that uses a case as the program does and returns the outcome in
            a word.
        share: percentage of all cases.
        at_once: cases per process, which take some seconds.
    """

    name: str
    make: str
    check: str
    share: int = 0
    at_once: int = 1000

    def load(self) -> tuple[Callable[[int, int], Case], Callable[[Case], str]]:
        """Import both functions."""
        return _import_function(self.make), _import_function(self.check)


def _make_kind(name: str, share: int, at_once: int) -> FuzzKind:
    module = f"tests.fuzz.{name}"
    return FuzzKind(name, f"{module}:make", f"{module}:check", share, at_once)


KINDS = {
    kind.name: kind
    for kind in (
        _make_kind("photos", 50, 4000),
        _make_kind("archives", 10, 2000),
        _make_kind("lists", 6, 4000),
        _make_kind("journals", 8, 2000),
        _make_kind("reports", 12, 2000),
        _make_kind("reviews", 6, 10_000),
        _make_kind("records", 5, 3000),
        _make_kind("models", 3, 500),
    )
}


def split_cases(number: int) -> dict[str, int]:
    """Split a number of cases among the kinds by their shares."""
    split = {name: number * kind.share // 100 for name, kind in KINDS.items()}
    split["photos"] += number - sum(split.values())
    return split


def _import_function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
