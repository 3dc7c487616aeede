"""Which faults a scenario meets, chosen by a number, so that each can be had again."""

from __future__ import annotations

import random

from tests.faults.driver import Baseline
from tests.faults.shim import CHANGES, KILL, READS, SENDS, TEAR, Fault

# What each error can befall: a disk that is full or read-only refuses changes from then on; a bad
# sector refuses a read or a write, once or for good.
FULL = ("ENOSPC", "EDQUOT")
READ_ONLY = "EROFS"
BAD_SECTOR = "EIO"
# Kills in a row before a run is left in peace, and how often.
KILL_COUNTS = (1, 1, 1, 1, 2, 3)


def choose_kills(undisturbed: Baseline, rng: random.Random) -> list[Fault]:
    """Choose the calls at which a run is killed, and mostly only one."""
    kinds = CHANGES + (SENDS if undisturbed.store else ())
    calls = max(1, undisturbed.calls(kinds))
    number = rng.choice(KILL_COUNTS)
    return [
        Fault(rng.choice((KILL, KILL, TEAR)), rng.randint(1, calls), kinds) for _ in range(number)
    ]


def choose_errors(undisturbed: Baseline, rng: random.Random) -> list[Fault]:
    """Choose an error and the call that it befalls."""
    act = rng.choice((*FULL, READ_ONLY, BAD_SECTOR, BAD_SECTOR))
    kinds: tuple[str, ...]
    if act == BAD_SECTOR:
        kinds = rng.choice((("write", "sync"), (*CHANGES, *READS), READS))
        lasting = rng.random() < 0.3
    else:
        # Names can be taken away on a full disk, but not given.
        kinds = ("write", "sync", "open") if act in FULL else CHANGES
        lasting = rng.random() < 0.7
    at = rng.randint(1, max(1, undisturbed.calls(kinds)))
    return [Fault(act, at, kinds, lasting)]
