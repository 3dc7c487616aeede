from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from batch.options import MAX_FILE_BYTES
from batch.records import Failure, Photo, Reason, Stage
from batch.vision.decode import decode
from batch.vision.read_file import read_file
from tests.support.decoded import are_pixels_close, encode

NOBODY = 65534


class TestRead:
    def test_bytes(self, tmp_path: Path, astronaut: Image.Image) -> None:
        path = tmp_path / "photo.txt"
        path.write_bytes(encode(astronaut, "PNG"))
        assert read_file(path) == path.read_bytes()
        result = decode(path)
        assert isinstance(result, Photo)
        assert result.path == path
        assert are_pixels_close(result.pixels, astronaut)

    def refused(self, path: Path) -> Reason:
        result = decode(path)
        assert isinstance(result, Failure)
        assert result.path == path
        assert result.stage is Stage.READ
        assert str(path) not in result.detail
        return result.reason

    def test_gone(self, tmp_path: Path) -> None:
        assert self.refused(tmp_path / "lost.jpg") is Reason.VANISHED
        (tmp_path / "file").touch()
        assert self.refused(tmp_path / "file" / "lost.jpg") is Reason.VANISHED

    def test_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        os.mkfifo("pipe.jpg")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.jpg")
            for name in ("pipe.jpg", "socket.jpg", ".", "/dev/zero"):
                assert self.refused(Path(name).absolute()) is Reason.NOT_A_FILE

    def test_not_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        tmp_path.chmod(0o755)
        path = Path("photo.jpg")
        path.touch(mode=0)
        privileged = os.geteuid() == 0
        if privileged:
            os.seteuid(NOBODY)
        try:
            assert self.refused(path) is Reason.UNREADABLE
        finally:
            if privileged:
                os.seteuid(0)

    def test_too_many_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.jpg"
        with path.open("wb") as file:
            file.truncate(MAX_FILE_BYTES + 1)  # sparse: it takes no room
        assert self.refused(path) is Reason.TOO_LARGE

    def test_an_empty_file_was_read_but_holds_no_photo(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.jpg"
        path.touch()
        assert read_file(path) == b""
        result = decode(path)
        assert isinstance(result, Failure)
        assert (result.stage, result.reason) == (Stage.DECODE, Reason.EMPTY)
