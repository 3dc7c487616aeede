"""The archives that were asked last, held open, since each is asked for many members."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

from batch.sources.archive import Archive, open_archive

MAX_OPEN_ARCHIVES = 4


class Archives:
    """The archives that were asked last, held open; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Archive] = OrderedDict()
        self._readers: Counter[str] = Counter()

    def read(self, path: str, name: str, most: int) -> bytes:
        """Read a member of an archive: see ``Archive.read`` and ``open_archive``."""
        with self._lock:  # while it is opened, as the others want the same one, as a rule
            archive = self._open.get(path) or open_archive(path)
            self._open[path] = archive
            self._open.move_to_end(path)
            self._readers[path] += 1
        try:
            return archive.read(name, most)
        finally:
            with self._lock:
                self._readers[path] -= 1
                self._close_oldest()

    def _close_oldest(self) -> None:
        idle = [path for path in self._open if not self._readers[path]]
        for path in idle[: max(0, len(self._open) - MAX_OPEN_ARCHIVES)]:
            self._open.pop(path).close()
            del self._readers[path]

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()
