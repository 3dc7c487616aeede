"""Files at URLs are prefetched, within limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch.discovery.fetcher import MAX_FILES_AHEAD, FetchedFile, Fetcher
from batch.location import Url
from batch.records import Failure, Reason


class TestFetcher:
    def test_keeps_the_order_and_takes_no_more_than_its_window(self, tmp_path: Path) -> None:
        import fsspec

        store = fsspec.filesystem("memory")
        for number in range(200):
            store.pipe_file(f"/window/{number}", str(number).encode())
        taken = []

        def items() -> Iterator[Url | Path]:
            for number in range(200):
                taken.append(number)
                yield Path("local") if number == 50 else Url(f"memory://window/{number}")

        fetched = Fetcher(1000).prefetch(items())
        for number, item in enumerate(fetched):
            assert len(taken) <= number + MAX_FILES_AHEAD
            if number == 50:
                assert item == Path("local")
            else:
                assert isinstance(item, FetchedFile)
                assert item.content == str(number).encode()
        assert len(taken) == 200

    def test_a_slow_file_keeps_no_other_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        is_over = threading.Event()

        def fetch(self: Fetcher, url: Url, room: Callable[[int], bool], *_: object) -> FetchedFile:
            if url.text.endswith("/0"):
                assert room(10**9)  # the first of those that are fetched
                is_over.wait(20)
            return FetchedFile(url, b"", 0.0)

        monkeypatch.setattr(Fetcher, "fetch", fetch)
        items = [Url(f"memory://slow/{number}") for number in range(3 * MAX_FILES_AHEAD)]
        given = []
        for item in Fetcher(1000).prefetch(items, in_order=False):
            assert isinstance(item, FetchedFile)
            given.append(item.url)
            if len(given) == len(items) - 1:
                is_over.set()
        assert given[-1] == items[0]
        assert set(given) == set(items)
        assert len(given) == len(items)

    def test_bytes_ahead_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import fsspec

        from batch.discovery import fetcher

        monkeypatch.setattr(fetcher, "MAX_BYTES_AHEAD", 1000)
        fsspec.filesystem("memory").pipe_file("/bounded", bytes(400))
        taken = []

        def items() -> Iterator[Url]:
            for number in range(20):
                taken.append(number)
                yield Url("memory://bounded", size=400)

        for number, _ in enumerate(Fetcher(10_000).prefetch(items())):
            assert len(taken) <= number + 3
        assert len(taken) == 20

    def test_a_file_that_is_larger_than_listed_is_not_read_to_its_end(self) -> None:
        import fsspec

        fsspec.filesystem("memory").pipe_file("/large", bytes(5000))
        content = Fetcher(1000).fetch(Url("memory://large", size=10)).content
        assert isinstance(content, Failure)
        assert content.reason is Reason.TOO_LARGE
