"""What a worker needs to label photos, as the run hands it over."""

from __future__ import annotations

import os
import pickle
from typing import BinaryIO

from batch.contract.ensemble import Plan
from batch.workers.process import seal, write_shared


def write_plan(plan: Plan, file: BinaryIO) -> None:
    """Write a plan into a file that workers inherit, and that none of them can change."""
    write_shared(file, pickle.dumps(plan))
    seal(file)


def read_plan(descriptor: int) -> Plan:
    """Read the plan in an inherited file, from its start wherever others have read to.

    It is unpickled: only the run can have written it.
    """
    plan: Plan = pickle.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    return plan
