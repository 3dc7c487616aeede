"""Which faults a scenario meets, chosen by a number, so that each can be had again."""

from __future__ import annotations

import random

from tests.faults.driver import Undisturbed
from tests.faults.shim import CHANGES, KILL, READS, SENDS, TEAR, Fault

# What each error can befall: a disk that is full or read-only refuses changes from then on; a bad
# sector refuses a read or a write, once or for good.
FULL = ("ENOSPC", "EDQUOT")
READ_ONLY = "EROFS"
BAD_SECTOR = "EIO"
# Kills in a row before a run is left in peace, and how often.
IN_A_ROW = (1, 1, 1, 1, 2, 3)


def kills(undisturbed: Undisturbed, chance: random.Random) -> list[Fault]:
    """Choose the calls at which a run is killed, and mostly only one."""
    kinds = CHANGES + (SENDS if undisturbed.store else ())
    calls = max(1, undisturbed.calls(kinds))
    number = chance.choice(IN_A_ROW)
    return [
        Fault(chance.choice((KILL, KILL, TEAR)), chance.randint(1, calls), kinds)
        for _ in range(number)
    ]


def errors(undisturbed: Undisturbed, chance: random.Random) -> list[Fault]:
    """Choose an error and the call that it befalls."""
    act = chance.choice((*FULL, READ_ONLY, BAD_SECTOR, BAD_SECTOR))
    kinds: tuple[str, ...]
    if act == BAD_SECTOR:
        kinds = chance.choice((("write", "sync"), (*CHANGES, *READS), READS))
        lasting = chance.random() < 0.3
    else:
        # Names can be taken away on a full disk, but not given.
        kinds = ("write", "sync", "open") if act in FULL else CHANGES
        lasting = chance.random() < 0.7
    at = chance.randint(1, max(1, undisturbed.calls(kinds)))
    return [Fault(act, at, kinds, lasting)]
