"""Run records for tests: of an incomplete run, and of a run that failed early."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from batch.recording.drift import Drift
from batch.recording.run_record import (
    DetectorRecord,
    HostRecord,
    ModelRecord,
    Outcome,
    RunCounts,
    RunRecord,
    StageSeconds,
)
from batch.shard import ShardRecord

RECORD = RunRecord(
    outcome=Outcome.INCOMPLETE,
    exit_code=3,
    published=True,
    error=None,
    started=datetime(2024, 5, 1, 22, 0, 0, 5_000, tzinfo=UTC),
    ended=datetime(2024, 5, 1, 22, 30, tzinfo=UTC),
    report="results.csv",
    inputs=("photos/",),
    seconds=StageSeconds(wall=1800.0, decode=99.5),
    counts=RunCounts(
        found=12,
        labelled_now=2,
        reused=10,
        by_status={"ok": 11, "failed": 1},
        by_reason={"empty": 1},
        by_label={"happy": 11, "sad": 0},
    ),
    models=(ModelRecord("happy-sad", "1", "ab" * 32), ModelRecord("people", "2", "cd" * 32)),
    detector=DetectorRecord("ef" * 32),
    provider="cuda",
    devices=(0, 1),
    settings={"min_confidence": None, "batch_size": 32, "labels": ("a", "b")},
    versions={"batch-label": "0.1.0", "onnxruntime": None},
    host=HostRecord("night", "Linux 6.1 x86_64", 2),
    drift=Drift(500, 0.9, 0.12, None, -0.01, ("the shares of labels differ much",)),
    basis="ab12",
    shard=ShardRecord(3, 16, 190, "cd34"),
    outputs=("happy", "sad", "neither", "no_person"),
)
# The record of a run that failed before its models were open.
EARLY = replace(
    RECORD,
    outcome=Outcome.FAILED,
    exit_code=1,
    error="model x.onnx can't be read; give the path of an .onnx file",
    published=False,
    counts=RunCounts(),
    models=(),
    detector=None,
    provider=None,
    devices=(),
    drift=None,
    basis=None,
    shard=None,
    outputs=(),
)
