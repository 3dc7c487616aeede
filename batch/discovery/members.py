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
from batch.discovery.walk import look_at
from batch.errors import InputError
from batch.found import Found, fail, find
from batch.location import location_of, member_url, split_member, unpacked_by
from batch.options import LeftOut, Search
from batch.path_text import printable
from batch.records import Reason
from batch.stopping import Check, never_stop
from batch.stores.requests import retried
from batch.stores.store import said


def members_of(
    archive: Found,
    reader: ArchiveReader,
    search: Search,
    left_out: LeftOut,
    check: Check = never_stop,
) -> Iterator[Found]:
    """Give the photos in an archive, or the archive itself with the reason why it can't be read.

    Of one that is damaged the photos before the damage are given as well. A member is told from
    its old self by its size and by the archive's time or ETag: of members that are not older than
    the archive nothing is read again but the bytes, which are then known.
    """
    search = replace(search, archives=False)  # one inside another can't be read in place
    command = unpacked_by(archive.path)
    if command:
        name = quote(printable(Path(archive.path).name))
        detail = f"a compressed archive can't be read in place; unpack it instead: {command} {name}"
        yield fail(archive.path, Reason.UNSUPPORTED, detail)
        return
    try:
        with closing(retried(lambda: _begin(reader, archive.path), check)) as members:
            for member in members:
                why = member.why if member.left_out else search.why_not(member.name)
                if why:
                    left_out(location_of(member_url(archive.path, member.name)), why)
                else:
                    yield _found(archive, member)
    except ArchiveError as error:
        damaged = error.reason is Reason.CORRUPT
        detail = f"not to be read as an archive ({error})" if damaged else str(error)
        yield fail(archive.path, error.reason, detail)
    except OSError as error:  # of a store, for the last time
        yield fail(archive.path, Reason.UNREADABLE, said(error))


def named_members(
    urls: Iterable[str], reader: ArchiveReader, check: Check = never_stop
) -> Iterator[Found]:
    """Give members of archives that are named by themselves, whatever they are."""
    for path, group in groupby(urls, lambda url: _split(url)[0]):
        archive = _look(path, check)
        for url in group:
            if archive.failure:
                yield fail(url, archive.failure.reason, archive.failure.detail)
            else:
                yield _find(archive, _split(url)[1], url, reader, check)


def _find(archive: Found, name: str, url: str, reader: ArchiveReader, check: Check) -> Found:
    try:
        return _found(archive, retried(lambda: reader.find(archive.path, name), check))
    except ArchiveError as error:
        return fail(url, error.reason, str(error))
    except OSError as error:
        return fail(url, Reason.UNREADABLE, said(error))


def _begin(reader: ArchiveReader, path: str) -> Generator[Member, None, None]:
    """List an archive up to its first member, which tells whether it can be opened at all."""
    members = reader.members(path)
    return _go_on(next(members, None), members)


def _go_on(
    first: Member | None, others: Generator[Member, None, None]
) -> Generator[Member, None, None]:
    with closing(others):
        if first is not None:
            yield first
            yield from others


def _found(archive: Found, member: Member) -> Found:
    path = member_url(archive.path, member.name)
    if member.why:
        return fail(path, member.reason, member.why)
    # Archives are made anew, often with members whose times are all zero.
    return find(path, member.size, etag=archive.etag or str(archive.mtime_ns))


def _look(path: str, check: Check) -> Found:
    location = location_of(path)
    if isinstance(location, Path):
        return look_at(str(location))._replace(path=path)
    # Here, as it loads clients, which a run on this machine's files does without.
    from batch.discovery.listing import look

    try:
        return look(path, check).found
    except InputError as error:
        gone = isinstance(error.__cause__, FileNotFoundError)
        detail = said(error.__cause__ or error)
        return fail(path, Reason.VANISHED if gone else Reason.UNREADABLE, detail)


def _split(url: str) -> tuple[str, str]:
    return split_member(url) or (url, "")
