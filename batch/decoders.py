"""Reading and decoding in processes of their own, so that a bad file costs a row and no run."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from batch.decoder import Decoder, Lost
from batch.decoder_process import PROGRAM
from batch.errors import DecoderError
from batch.file_limits import FileLimits
from batch.records import Decoded, Failure, Stage

# Once a process has started, others do too, unless memory or processes run short for a while.
ATTEMPTS = 3
PAUSE = 1.0  # seconds between them


class Decoders:
    """Processes that decode photos: as many as there are threads that ask at the same time.

    They are started as they are needed, and one that was lost is replaced. Safe to share
    between threads; as a context manager it ends them as the block ends.
    """

    def __init__(self, limits: FileLimits, program: str = PROGRAM) -> None:
        self._limits = limits
        self._program = program
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._has_started = self._is_closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def decode(self, path: Path, digest: bool = False, salvage: bool = False) -> Decoded:
        """Read and decode a file; with ``digest`` its state has the SHA-256 of its bytes.

        With ``salvage`` what is there of a truncated photo will do, see ``decode_upright``.

        A file that takes too long, or that the process does not survive, is a Failure.

        Raises:
            DecoderError: no process can be started.
        """
        decoder = self._taken()
        try:
            decoded = decoder.decode(path, digest, salvage)
        except Lost as lost:
            decoder.kill()
            return Decoded(Failure(path, Stage.DECODE, lost.reason, lost.detail))
        except BaseException:  # what it has in hand would be taken for the next photo's
            decoder.kill()
            raise
        self._give_back(decoder)
        return decoded

    def close(self) -> None:
        """End all processes; those in use end as they are given back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.hang_up()
        for decoder in idle:
            decoder.end()

    def _taken(self) -> Decoder:
        while True:
            with self._lock:
                decoder = self._idle.pop() if self._idle else None
            if decoder is None:
                return self._begun()
            if decoder.is_alive:
                return decoder
            decoder.kill()  # somebody else did, between two photos

    def _begun(self) -> Decoder:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                decoder = Decoder(self._limits, self._program)
            except DecoderError:
                if not self._has_started or attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE)
            else:
                self._has_started = True
                return decoder
        raise AssertionError("the last attempt returns or raises")

    def _give_back(self, decoder: Decoder) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(decoder)
                return
        decoder.end()
