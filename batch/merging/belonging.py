"""Whether parts belong together: what the records of the runs that wrote them say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batch.errors import InputError
from batch.merging.part import Part
from batch.path_text import printable
from batch.recording.run_record import RunRecord
from batch.recording.runfile import SUFFIX
from batch.shard import ShardRecord

Known = tuple[Part, RunRecord, ShardRecord]
# Numbers that a message has room for.
MANY = 8
_OTHERS = "give the reports of one division"
_LIST = "photos came or went between the runs: make a manifest first, and label that"
_ANEW = "label the shards that differ again"


def check_parts(parts: Sequence[Part], recorded: bool) -> ShardRecord | None:
    """Make sure that parts are all the shards of one listing, labelled in one way.

    Parts without a record are passed over unless all are to be ``recorded``. Gives the record of
    one of the shards, or None where no part has one.

    Raises:
        InputError: they don't belong together; the message names the parts, and what to do.
    """
    known = [known for part in parts if (known := _known(part, recorded))]
    listing = _check_known(known, complete=len(known) == len(parts)) if known else None
    named = [part for part in parts if part.outputs is not None]
    for part in named[1:]:
        if (part.outputs, part.per_face) != (named[0].outputs, named[0].per_face):
            raise InputError(f"{_both(named[0], part)} have different columns", _ANEW)
    return listing


def _check_known(known: Sequence[Known], complete: bool) -> ShardRecord:
    _alike(known, "are parts of different numbers of shards", lambda r, s: s.of, _OTHERS)
    _alike(known, "have different listings", lambda r, s: (s.found, s.listing), _LIST)
    _alike(known, "were labelled by different models", lambda r, s: r.models, _ANEW)
    for option in ("min_confidence", "always_answer", "per_face", "salvage"):
        what = f"were labelled with different --{option.replace('_', '-')}"
        # Records of versions before an option lack it.
        _alike(known, what, lambda r, s, o=option: r.settings.get(o, False), _ANEW)  # type: ignore[misc]
    _alike(known, "were labelled by different versions of the program", lambda r, s: r.basis, _ANEW)
    _check_numbers(known, complete)
    return known[0][2]


def _known(part: Part, recorded: bool) -> Known | None:
    record = part.record
    if record is None:
        if recorded:
            raise InputError(
                f"{part.called} has no run record, which its run left beside it as {SUFFIX}",
                "bring it along, or give the manifest that was labelled with --manifest",
            )
        return None
    if not record.published:
        why = record.outcome.replace("_", " ")
        raise InputError(
            f"{part.called} is not that of its last run, which published none ({why})",
            "run its shard again, to the end",
        )
    if record.shard is None:
        raise InputError(
            f"{part.called} was not written by a run with --shard", "give reports of shards alone"
        )
    return part, record, record.shard


def _alike(
    known: Sequence[Known],
    what: str,
    of: Callable[[RunRecord, ShardRecord], object],
    remedy: str,
) -> None:
    first, *others = known
    for other in others:
        if of(*first[1:]) != of(*other[1:]):
            raise InputError(f"{_both(first[0], other[0])} {what}", remedy)


def _check_numbers(known: Sequence[Known], complete: bool) -> None:
    by_number: dict[int, Part] = {}
    for part, _, shard in known:
        twin = by_number.setdefault(shard.number, part)
        if twin is not part:
            raise InputError(
                f"{_both(twin, part)} are both of shard {shard.number}/{shard.of}", "give one"
            )
    of = known[0][2].of
    absent = [str(n) for n in range(1, of + 1) if n not in by_number]
    if complete and absent:
        some = ", ".join(absent[:MANY]) + (" and more" if len(absent) > MANY else "")
        raise InputError(
            f"{len(absent)} of {of} shards missing: number {some}", "give their reports too"
        )


def _both(one: Part, other: Part) -> str:
    return printable(f"{one.called} and {other.called}")
