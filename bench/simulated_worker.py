"""Simulated worker that replies at once with a fixed row, to measure the main process alone.

``python -m bench.simulated_worker FIGURES.json ARGUMENTS...`` runs the command with such workers.
It writes to FIGURES.json the number of rows, the time from the first request to the last row in
the journal, and the processor time that the main process spent in that time.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batch.location import parse_location
from batch.records import Answer, Box, FileState, Row, Source, Status
from batch.workers.process import PLAN_WRITTEN
from batch.workers.protocol import REQUEST_HEADER, VERDICT_LABEL, TimedRow, pack_reply

PROGRAM = "bench.simulated_worker"
BOX = Box(101.25, 57.75, 143.5, 143.5, 0.9172636270523071)
FACE = Answer(
    Status.OK, "happy", 0.8731, {"happy": 0.8731, "sad": 0.0269, "neither": 0.1}, BOX
)  # an answer of the default face model
PHOTO = Answer(
    Status.OK,
    "happy",
    0.8731,
    {"happy": 0.8731, "sad": 0.0264, "neither": 0.1, "no_person": 0.0005},
    BOX,
)


def main(connection: int, plan: int, *limits: int) -> None:
    """Reply to requests until the run closes the connection; arguments as for every worker."""
    with socket.socket(fileno=connection) as run:
        if _receive(run, len(PLAN_WRITTEN)) != PLAN_WRITTEN:
            return
        run.sendall(b"\n")  # ready
        while request := _receive(run, REQUEST_HEADER.size):
            length, digest, may_be_known, *_ = REQUEST_HEADER.unpack(request)
            name = _receive(run, length)
            status = os.stat(name)  # noqa: PTH116 - the name is bytes
            state = FileState(
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                digest=hashlib.sha256(name).digest() if digest else None,
                ctime_ns=status.st_ctime_ns,
                inode=status.st_ino,
            )
            if may_be_known:
                run.sendall(pack_reply(None, state))
                if _receive(run, len(VERDICT_LABEL)) != VERDICT_LABEL:
                    continue
            path = parse_location(os.fsdecode(name))
            row = Row(path, Status.OK, PHOTO, Source.BOTH, (FACE,), 350, 350)
            run.sendall(pack_reply(TimedRow(row, {}), state))


def _receive(run: socket.socket, size: int) -> bytes:
    """Receive ``size`` bytes; fewer only if the run has closed the connection."""
    data = b""
    while len(data) < size and (part := run.recv(size - len(data))):
        data += part
    return data


def run_command(figures: Path, arguments: list[str]) -> None:
    """Run the command with simulated workers."""
    # Imported late, because a worker does not need them.
    from batch.cli.main import main as run
    from batch.engines import local as pipeline
    from batch.workers import process

    label = pipeline.LocalEngine.label

    def timed(*given: Any, **named: Any) -> Iterator[Any]:
        rows, started, spent = 0, time.perf_counter(), time.process_time()
        # The run takes the next row once the last one is in the journal.
        for row in label(*given, **named):
            yield row
            rows += 1
        seconds, spent = time.perf_counter() - started, time.process_time() - spent
        figures.write_text(json.dumps({"rows": rows, "seconds": seconds, "spent": spent}), "utf-8")

    for module in (pipeline, process):
        vars(module)["LABELLING_PROGRAM"] = PROGRAM
    pipeline.LocalEngine.label = timed  # type: ignore[method-assign]
    sys.argv = ["batch-label", *arguments]
    run()


if __name__ == "__main__":
    run_command(Path(sys.argv[1]), sys.argv[2:])
