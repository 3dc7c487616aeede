"""Photos inside archives, found as separate files."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from shlex import quote

from batch.discovery.archive import ArchiveError, Member
from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.walk import stat_file
from batch.errors import InputError
from batch.found import FoundFile, make_failed, make_found
from batch.location import build_member_url, find_unpack_command, parse_location, split_member
from batch.options import OnSkip, Search
from batch.os_errors import classify_read_error
from batch.path_text import printable_text
from batch.records import Reason
from batch.stopping import StopCheck, never_stop
from batch.stores.requests import retry
from batch.stores.store import error_text


def list_members(
    archive: FoundFile,
    reader: ArchiveReader,
    search: Search,
    on_skip: OnSkip,
    check: StopCheck = never_stop,
) -> Iterator[FoundFile]:
    """Yield the photos in an archive; if it is damaged, those before the damage and a failure.

    The failure has the path of the archive. A member counts as unchanged if its size and the
    archive's time or ETag are the same; otherwise its bytes are read and compared.

    Args:
        archive: the archive, as it was found.
        reader: reads it.
        search: which members are photos.
        on_skip: called with every other member and the reason.
        check: called while waiting; raises an exception to end the wait.
    """
    search = replace(search, archives=False)  # archives in archives can't be read in place
    command = find_unpack_command(archive.path)
    if command:
        name = quote(printable_text(Path(archive.path).name))
        detail = f"a compressed archive can't be read in place; unpack it instead: {command} {name}"
        yield make_failed(archive.path, Reason.UNSUPPORTED, detail)
        return
    try:
        with closing(retry(lambda: _open_listing(reader, archive.path), check)) as members:
            for member in members:
                reason = (
                    member.detail if member.is_skipped else search.find_skip_reason(member.name)
                )
                if reason:
                    on_skip(parse_location(build_member_url(archive.path, member.name)), reason)
                else:
                    yield _to_found(archive, member)
    except ArchiveError as error:
        is_damaged = error.reason is Reason.CORRUPT
        detail = f"not readable as an archive ({error})" if is_damaged else str(error)
        yield make_failed(archive.path, error.reason, detail)
    except OSError as error:  # of a store, after all retries
        yield make_failed(archive.path, Reason.UNREADABLE, error_text(error))


def find_members(
    urls: Iterable[str], reader: ArchiveReader, check: StopCheck = never_stop
) -> Iterator[FoundFile]:
    """Yield the members of archives that URLs name, photos or not."""
    for path, group in groupby(urls, lambda url: _split(url)[0]):
        archive = _look_up_archive(path, check)
        for url in group:
            if archive.failure:
                yield make_failed(url, archive.failure.reason, archive.failure.detail)
            else:
                yield _find_member(archive, _split(url)[1], url, reader, check)


def _find_member(
    archive: FoundFile, name: str, url: str, reader: ArchiveReader, check: StopCheck
) -> FoundFile:
    try:
        return _to_found(archive, retry(lambda: reader.find(archive.path, name), check))
    except ArchiveError as error:
        return make_failed(url, error.reason, str(error))
    except OSError as error:
        return make_failed(url, Reason.UNREADABLE, error_text(error))


def _open_listing(reader: ArchiveReader, path: str) -> Generator[Member, None, None]:
    """Start to list an archive; the first member is read at once, so that ``retry`` covers it."""
    members = reader.members(path)
    return _chain_members(next(members, None), members)


def _chain_members(
    first: Member | None, others: Generator[Member, None, None]
) -> Generator[Member, None, None]:
    with closing(others):
        if first is not None:
            yield first
            yield from others


def _to_found(archive: FoundFile, member: Member) -> FoundFile:
    path = build_member_url(archive.path, member.name)
    if member.detail:
        return make_failed(path, member.reason, member.detail)
    # The archive's time, as that of a member is often zero.
    return make_found(path, member.size, etag=archive.etag or str(archive.mtime_ns))


def _look_up_archive(path: str, check: StopCheck) -> FoundFile:
    location = parse_location(path)
    if isinstance(location, Path):
        return stat_file(str(location))._replace(path=path)
    # Imported here, as it loads the stores' clients.
    from batch.discovery.remote import look_up

    try:
        return look_up(path, check).found
    except InputError as error:
        detail = error_text(error.__cause__ or error)
        return make_failed(path, classify_read_error(error.__cause__), detail)


def _split(url: str) -> tuple[str, str]:
    return split_member(url) or (url, "")
