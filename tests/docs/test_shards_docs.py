"""docs/shards.md says what the code does: its help texts and examples are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.cli.main import cli
from batch.log import PROGRAM
from batch.shard import Shard
from tests.conftest import REPOSITORY
from tests.support.runs import make_photos

TEXT = (REPOSITORY / "docs" / "shards.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("name", ["manifest", "merge"])
def test_the_help_is_shown_word_for_word(name: str) -> None:
    ran = CliRunner().invoke(cli, [name, "--help"], prog_name=PROGRAM, terminal_width=98)
    shown = "\n".join(line[4:] for line in TEXT.splitlines() if line[:4] == "    " or not line)
    assert ran.output.strip() in shown


def test_the_rule_of_shards_is_that_of_the_code() -> None:
    (example,) = _blocks("python")
    names: dict[str, object] = {}
    exec(example, names)
    shard_of = names["shard_of"]
    assert callable(shard_of)
    for number in range(100):
        path = f"photos/{number}.jpg".encode()
        assert Shard(shard_of(path, 7), 7).contains(path)


def test_the_first_example_is_a_single_run_s_report(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 12)
    example, _ = _blocks("sh")
    as_command = f'{PROGRAM}() {{ "{sys.executable}" -m batch "$@"; }}\n'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    single = f"{PROGRAM} photos/ -o single.csv"
    subprocess.run(
        ["bash", "-euc", f"{as_command}{example}\n{single}"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "results.csv").read_bytes() == (tmp_path / "single.csv").read_bytes()


def test_array_jobs_number_their_shards_from_one_to_the_last() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (job,) = (yaml.safe_load(block) for block in _blocks("yaml"))
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    (container,) = spec["template"]["spec"]["containers"]
    (script,) = container["args"]
    assert "n=$((JOB_COMPLETION_INDEX + 1))" in script
    assert f"--shard $n/{spec['completions']} " in script
    subprocess.run(["sh", "-n", "-c", script], check=True)
    _, slurm = _blocks("sh")
    last = re.findall(r"--array=1-(\d+)", slurm)
    assert re.findall(r"\$SLURM_ARRAY_TASK_ID/(\d+)", slurm) == last
