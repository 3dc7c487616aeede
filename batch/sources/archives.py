"""The archives that were asked last, each with a process that reads it."""

from __future__ import annotations

from collections import OrderedDict
from threading import Condition, Lock

from batch.sources.archive_reader import ArchiveReader
from batch.stopping import Check, never_stop

MAX_OPEN_ARCHIVES = 4
_PART = 0.1  # seconds that one thread waits for others at a time


class Archives:
    """The archives that were asked last, held open; safe to share between threads."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._open: OrderedDict[str, _Shared] = OrderedDict()

    def read(self, path: str, name: str, most: int, check: Check = never_stop) -> bytes:
        """Read a member of an archive: see ``ArchiveReader.read``; ``check`` may end the wait."""
        shared = self._take(path, check)
        try:
            while not shared.lock.acquire(timeout=_PART):
                check()
            try:
                shared.reader.check = check
                return shared.reader.read(path, name, most)
            finally:
                shared.lock.release()
        finally:
            with self._changed:
                shared.users -= 1
                self._changed.notify_all()

    def _take(self, path: str, check: Check) -> _Shared:
        """Give the process that reads an archive, or one that has nothing in hand."""
        with self._changed:
            while (shared := self._open.pop(path, None) or self._idle()) is None:
                check()
                self._changed.wait(_PART)
            self._open[path] = shared  # as the last
            shared.users += 1
            return shared

    def _idle(self) -> _Shared | None:
        if len(self._open) < MAX_OPEN_ARCHIVES:
            return _Shared(ArchiveReader())
        path = next((path for path, shared in self._open.items() if not shared.users), None)
        return None if path is None else self._open.pop(path)

    def close(self) -> None:
        """Close them all."""
        with self._changed:
            while self._open:
                self._open.popitem()[1].reader.close()


class _Shared:
    """A reader with the threads that use it, one at a time."""

    def __init__(self, reader: ArchiveReader) -> None:
        self.reader = reader
        self.lock = Lock()
        self.users = 0
