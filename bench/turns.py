"""Turns: what is compared is measured side by side, every other round in the opposite order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


def run_in_turns(
    ways: Mapping[Key, Callable[[int], Result]], rounds: int
) -> dict[Key, list[Result]]:
    """Measure each way once per round.

    The load of a machine changes slowly. There and back, such a change favours none of the ways.

    Args:
        ways: what to measure, called with the number of the round.
        rounds: how often.

    Returns:
        The results of each way, in the order of the rounds: those of one index belong together.
    """
    found: dict[Key, list[Result]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(list(ways)):
            found[name].append(ways[name](number))
    return found
