"""Actors at work: who has which block, what becomes of one that is lost, and how they stop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from batch.cluster.actor import Answer, Refusal
from batch.cluster.block import Block, halves
from batch.errors import EngineError
from batch.log import Event, Level, Log
from batch.names import path_text, printable
from batch.records import Failure
from batch.stopping import Stop

if TYPE_CHECKING:
    from types import ModuleType

# Seconds between two looks whether the run is to end.
LOOK_EVERY = 0.2
# Seconds without any actor after which somebody is told.
PATIENCE = 30.0
# Actors in a row, for each that there may be at a time, that may die with nothing done.
DEATHS = 4
LEAST_DEATHS = 8
# Actors that a single file may cost.
TRIES = 3
LOGS = "see /tmp/ray/session_latest/logs on the nodes: mostly memory runs short"


class Crew:
    """Up to ``size`` actors, which ``hire`` starts as blocks come.

    A block whose actor dies is divided and given to others, so that a file which kills whoever
    touches it is alone at last. ``grace`` are the seconds that actors have to finish what they
    have in hand once the run is to end.
    """

    def __init__(
        self,
        ray: ModuleType,
        hire: Callable[[], Any],
        size: int,
        numbers: count[int],
        stop: Stop,
        log: Log,
        grace: float,
    ) -> None:
        self._ray, self._hire, self._size = ray, hire, size
        self._numbers, self._stop, self._log, self._grace = numbers, stop, log, grace
        self._idle: list[Any] = []
        # What each call that is not answered yet was made to; without a block, the call is `open`.
        self._calls: dict[Any, tuple[Any, Block | None]] = {}
        self._waiting: deque[Block] = deque()
        self._deaths = 0
        self._has_told = False

    def work(self, blocks: Iterator[Block]) -> Iterator[tuple[Block, Answer | None]]:
        """Have blocks labelled and give each with its answer, in the order they are done.

        A block of one file that three actors in a row died of has no answer.

        Raises:
            EngineError: actors can't be started, or die whatever they are given.
        """
        hired_at = time.monotonic()
        ends_at = None
        while True:
            if self._stop and ends_at is None:
                ends_at = time.monotonic() + self._grace
                self._tell(blocks)
            if ends_at is None:
                self._hand_out(blocks)
            if not any(block for _, block in self._calls.values()) and not self._waiting:
                return
            if ends_at is not None and time.monotonic() > ends_at:
                self._stop.cut = True
                return
            ready, _ = self._ray.wait(list(self._calls), timeout=LOOK_EVERY)
            for call in ready:
                yield from self._answered(call)
            hired_at = self._warned(hired_at)

    def dismiss(self) -> None:
        """End all actors."""
        for actor in [*self._idle, *(actor for actor, _ in self._calls.values())]:
            self._ray.kill(actor)
        self._idle.clear()
        self._calls.clear()

    def _hand_out(self, blocks: Iterator[Block]) -> None:
        """Take as many blocks as there are hands for, and start actors for those without."""
        opening = sum(block is None for _, block in self._calls.values())
        free = self._size - len(self._calls) - len(self._idle)
        while len(self._waiting) < len(self._idle) + opening + free:
            block = next(blocks, None)
            if block is None:
                break
            self._waiting.append(block)
        for _ in range(min(free, len(self._waiting) - len(self._idle) - opening)):
            actor = self._hire()
            self._calls[actor.open.remote()] = actor, None
        while self._idle and self._waiting:
            actor, block = self._idle.pop(), self._waiting.popleft()
            self._calls[actor.label.remote(block)] = actor, block

    def _answered(self, call: Any) -> Iterator[tuple[Block, Answer | None]]:
        actor, block = self._calls.pop(call)
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise EngineError(f"an actor failed: {_said(error)}", _remedy(error)) from error
        except self._ray.exceptions.RayError as error:
            self._ray.kill(actor)
            yield from self._lost(block, error)
            return
        if isinstance(answer, Refusal):
            self._ray.kill(actor)
            raise EngineError(answer.problem, answer.remedy)
        self._idle.append(actor)
        if block is not None:
            self._deaths = 0
            self._stop.cut |= answer.undone > 0
            yield block, answer

    def _lost(self, block: Block | None, error: Exception) -> Iterator[tuple[Block, Answer | None]]:
        self._deaths += 1
        if self._deaths > max(LEAST_DEATHS, DEATHS * self._size):
            raise EngineError(
                f"{self._deaths} actors died in a row, the last one of: {_said(error)}", LOGS
            ) from error
        if block is None:
            return
        if self._has_told:
            self._stop.cut = True
            return
        self._log(Event.ACTOR_LOST, _lost_with(block, error), Level.WARNING)
        for rest in halves(block, self._numbers):
            if rest.tries == TRIES:
                yield rest, None
            else:
                self._waiting.append(rest)

    def _tell(self, blocks: Iterator[Block]) -> None:
        """Let nobody begin another file, and see whether any is left."""
        self._has_told = True
        if self._waiting or next(blocks, None) is not None:
            self._stop.cut = True
        self._waiting.clear()
        for actor, block in self._calls.values():
            if block is not None:
                actor.stop.remote()

    def _warned(self, since: float) -> float:
        """Tell, now and then, that no actor has found room yet."""
        now = time.monotonic()
        if self._idle or any(block for _, block in self._calls.values()):
            return now
        if now - since < PATIENCE:
            return since
        self._log(
            Event.WAITING,
            "the cluster has no room for an actor yet: see `ray status`; an actor takes as many "
            "cores as --workers says",
            Level.WARNING,
        )
        return now


def _said(error: Exception) -> str:
    """Give the last line of what Ray says of an error, where the cause is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1]) if lines else type(error).__name__


def _remedy(error: Exception) -> str:
    cause = getattr(error, "cause", error)
    if isinstance(cause, ImportError):
        return "install the same version of batch-label, with the extra ray, on every node"
    return "tell the makers of batch-label; what is done is kept"


def _lost_with(block: Block, error: Exception) -> str:
    first = block.files[0]
    name = path_text(first.path if isinstance(first, Failure) else first)
    others = f" and {len(block.files) - 1} more" if len(block.files) > 1 else ""
    return f"an actor died with {name}{others}, which others take over: {_said(error)}"
