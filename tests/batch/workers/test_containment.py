"""What becomes of a whole run when its decoding processes die, hang, or are signalled with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import ExitCode
from tests.support.runs import REPORT, RunFolder, list_children, make_photos, wait_for, wait_for_end

NUMBER = 1200
LOST = 2
# Words in front of a command that give it a group of its own, as a shell does.
GROUP = (
    sys.executable,
    "-c",
    "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])",
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("many") / "photos", NUMBER)


@pytest.fixture
def place(tmp_path: Path, many: Path) -> RunFolder:
    (tmp_path / "photos").symlink_to(many)
    return RunFolder(tmp_path)


def decoders(pid: int) -> list[int]:
    """Number the processes that decode for a run and have come to the end of their start."""
    return [child for child in list_children(pid) if oom_score(child) > oom_score(pid)]


def oom_score(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return -1000


def lose(process: subprocess.Popen[str], number: signal.Signals | None) -> None:
    """Have a run's decoder hang with a photo in hand and, if a signal is given, die of that."""
    wait_for(lambda: bool(decoders(process.pid)), process)
    (decoder,) = decoders(process.pid)
    os.kill(decoder, signal.SIGSTOP)
    if number is not None:
        time.sleep(0.2)  # in which the run comes to ask it for a photo
        os.kill(decoder, number)
        os.kill(decoder, signal.SIGCONT)
    wait_for(lambda: decoder not in decoders(process.pid), process)


@linux
@pytest.mark.parametrize(
    ("number", "reason", "detail"),
    [
        (signal.SIGSEGV, "crashed", "its worker was killed by SIGSEGV"),
        (None, "timeout", "not read and decoded within --decode-timeout 1s"),
    ],
)
def test_a_decoder_that_is_lost_costs_a_row_and_the_next_run_makes_up_for_it(
    number: signal.Signals | None, reason: str, detail: str, place: RunFolder
) -> None:
    process = place.begin("--decode-timeout", "1s")
    for _ in range(LOST):
        lose(process, number)
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    counts = place.counts()
    assert counts["found"] == NUMBER
    assert counts["by_reason"] == {reason: LOST}
    errors = {row["error"] for row in place.rows().values()} - {""}
    assert errors == {f"{reason}: {detail}"}
    assert place.label()["by_status"]["failed"] == 0


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_costs_no_photo(
    number: signal.Signals, place: RunFolder
) -> None:
    process = place.begin(before=GROUP)
    (child,) = decoders(process.pid)
    os.killpg(process.pid, number)
    assert wait_for_end(process).returncode == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    record = place.record()
    assert record["counts"]["by_reason"] == {}
    assert 0 < record["counts"]["labelled_now"] < NUMBER
    assert place.label()["labelled_now"] == NUMBER - record["counts"]["labelled_now"]


def test_the_limits_of_a_file_are_the_user_s(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (101, 100)).save(tmp_path / "photos" / "large.png")
    Image.new("RGB", (100, 100)).save(tmp_path / "photos" / "small.png")
    (tmp_path / "photos" / "long.png").write_bytes(bytes(5000))
    limits = ("--max-pixels", "10K", "--max-file-size", "4K")
    ran = place.run("photos", "-o", REPORT, *limits)
    assert ran.returncode == ExitCode.INCOMPLETE
    assert {name: row["error"] for name, row in place.rows().items()} == {
        "photos/large.png": "too_large: 101 x 100 = 10,100 pixels, more than --max-pixels 10,000",
        "photos/long.png": "too_large: 5,000 bytes, more than --max-file-size 4,096",
        "photos/small.png": "",
    }
    settings = place.record()["settings"]
    assert (settings["max_pixels"], settings["max_file_size"]) == (10_000, 4096)
    # What was refused is tried again, what was answered is not.
    place.run("photos", "-o", REPORT, "--max-pixels", "1M")
    assert place.counts()["labelled_now"] == 2
    assert place.rows()["photos/large.png"]["error"] == ""


def test_what_libraries_print_does_not_reach_the_log(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos" / "broken.tif"
    Image.effect_noise((64, 64), 50).save(photo, compression="tiff_lzw")
    data = bytearray(photo.read_bytes())
    data[20:200] = bytes(range(180))  # libtiff prints what it thinks of these codes
    photo.write_bytes(data)
    code = "import sys; from pathlib import Path; from batch.vision.decode import decode;"
    alone = subprocess.run(
        [sys.executable, "-c", f"{code} decode(Path(sys.argv[1]))", photo],
        capture_output=True,
        text=True,
    )
    assert alone.stderr
    ran = RunFolder(tmp_path).run("photos", "-o", REPORT, "--log-format", "json")
    assert ran.returncode == ExitCode.INCOMPLETE
    assert all(json.loads(line)["event"] for line in ran.stderr.splitlines())
