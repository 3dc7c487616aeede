"""The photos inside an archive, as discovery finds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from batch.errors import BatchLabelError
from batch.location import location_of, member_url
from batch.records import Failure, Reason, Stage
from batch.sources.archive import Archive, ArchiveError, open_archive
from batch.sources.walk import Found, LeftOut, Search
from batch.stores.retrying import retried
from batch.stores.store import said
from batch.stores.waiting import Check, attend, never_stop


def members_of(
    archive: Found, search: Search, left_out: LeftOut, check: Check = never_stop
) -> Iterator[Found]:
    """Give the photos in an archive, or the archive itself with the reason why it can't be read.

    Of one that is damaged the photos before the damage are given as well. A member is told from
    its old self by its size and by the archive's time or ETag: of members that are not older than
    the archive nothing is read again but the bytes, which are then known.
    """
    # Archives are made anew, often with members whose times are all zero.
    stamp = archive.etag or str(archive.mtime_ns)
    search = replace(search, archives=False)  # one inside another can't be read in place
    try:
        with closing(retried(lambda: _open(archive.path, check), check)) as opened:
            for member in opened.members():
                path = member_url(archive.path, member.name)
                why = search.why_not(member.name)
                if why:
                    left_out(location_of(path), why)
                else:
                    yield Found(path, member.size, etag=stamp)
    except BatchLabelError:
        raise
    except ArchiveError as error:
        yield _failed(archive, Reason.CORRUPT, f"not to be read as an archive ({error})")
    except Exception as error:  # stores raise what they like
        check()  # a request that the end of the run has cancelled is no fault of the store
        gone = isinstance(error, FileNotFoundError)
        yield _failed(archive, Reason.VANISHED if gone else Reason.UNREADABLE, said(error))


def _open(path: str, check: Check) -> Archive:
    return attend(lambda: open_archive(path), check)


def _failed(archive: Found, reason: Reason, detail: str) -> Found:
    location = location_of(archive.path)
    return archive._replace(failure=Failure(location, Stage.READ, reason, detail))
