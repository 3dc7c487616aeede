"""The photos inside archives, as discovery finds them."""

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
    """Give the photos in an archive, or the archive itself with the reason why it can't be read.

    Of one that is damaged the photos before the damage are given as well. A member is told from
    its old self by its size and by the archive's time or ETag: of members that are not older than
    the archive nothing is read again but the bytes, which are then known.
    """
    search = replace(search, archives=False)  # one inside another can't be read in place
    command = find_unpack_command(archive.path)
    if command:
        name = quote(printable_text(Path(archive.path).name))
        detail = f"a compressed archive can't be read in place; unpack it instead: {command} {name}"
        yield make_failed(archive.path, Reason.UNSUPPORTED, detail)
        return
    try:
        with closing(retry(lambda: _open_listing(reader, archive.path), check)) as members:
            for member in members:
                why = member.why if member.skipped else search.find_skip_reason(member.name)
                if why:
                    on_skip(parse_location(build_member_url(archive.path, member.name)), why)
                else:
                    yield _to_found(archive, member)
    except ArchiveError as error:
        damaged = error.reason is Reason.CORRUPT
        detail = f"not to be read as an archive ({error})" if damaged else str(error)
        yield make_failed(archive.path, error.reason, detail)
    except OSError as error:  # of a store, for the last time
        yield make_failed(archive.path, Reason.UNREADABLE, error_text(error))


def find_members(
    urls: Iterable[str], reader: ArchiveReader, check: StopCheck = never_stop
) -> Iterator[FoundFile]:
    """Give members of archives that are named by themselves, whatever they are."""
    for path, group in groupby(urls, lambda url: _split(url)[0]):
        archive = _look_at_archive(path, check)
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
    """List an archive up to its first member, which tells whether it can be opened at all."""
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
    if member.why:
        return make_failed(path, member.reason, member.why)
    # Archives are made anew, often with members whose times are all zero.
    return make_found(path, member.size, etag=archive.etag or str(archive.mtime_ns))


def _look_at_archive(path: str, check: StopCheck) -> FoundFile:
    location = parse_location(path)
    if isinstance(location, Path):
        return stat_file(str(location))._replace(path=path)
    # Here, as it loads clients, which a run on this machine's files does without.
    from batch.discovery.listing import look_up

    try:
        return look_up(path, check).found
    except InputError as error:
        detail = error_text(error.__cause__ or error)
        return make_failed(path, classify_read_error(error.__cause__), detail)


def _split(url: str) -> tuple[str, str]:
    return split_member(url) or (url, "")
