"""Ray actors that die, refuse work or are stopped: real actors with trivial labels."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import batch
from batch.cli.main import cli
from batch.engines.engine import open_engine
from batch.engines.ray.actors import ActorConfig, BlockResult, LabelActor, unpack_results
from batch.engines.ray.connection import check_ray_installed
from batch.engines.ray.exchange import Block, BlockStore, PartStore, unpack_part
from batch.errors import UsageError
from batch.log import LogFormat, open_log
from batch.models.ensemble import load_ensemble
from batch.options import ClusterOptions, EngineKind, Job, JournalOptions, Options
from batch.records import Failure, FinishedFile, Reason, Region, Stage
from batch.stopping import Stop
from batch.vision.basis import compute_basis
from batch.vision.decide import make_failed_row
from tests.conftest import REPOSITORY
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.tiny_models import bright_model, bright_spec, save_model

__all__ = ["ray_cluster"]


class Deadly(LabelActor):
    """Aborts for files named ``deadly.jpg``, and fails all others as empty."""

    def _label_files(self, engine: Any, block: Block) -> Iterator[FinishedFile]:
        for file in block:
            if file.name == "deadly.jpg":
                os.abort()
            yield FinishedFile(make_failed_row(Failure(file, Stage.READ, Reason.EMPTY, "empty")))


def _run(cluster: RayCluster, folder: Path, files: list[str]) -> subprocess.CompletedProcess[str]:
    """Label files with ``Deadly`` actors in a separate process, and print their reasons."""
    program = f"""
import json, sys
from pathlib import Path
from batch.engines.ray import actors
from batch.engines.ray.ray_engine import RayEngine
from batch.log import LogFormat, open_log
from batch.options import ClusterOptions, EngineKind, Job, Options, Provider
from batch.records import PendingFile
from batch.stopping import Stop
from tests.batch.engines.ray.test_actors import Deadly
actors.LabelActor = Deadly
cluster = ClusterOptions(EngineKind.RAY, {cluster.address!r}, actors=2)
options = Options(model="bright.onnx", provider=Provider.CPU)
job = Job((), "r.csv", options=options, cluster=cluster)
ray = RayEngine(job, Stop(), open_log(sys.stderr, "text"))
finished = ray.label(PendingFile(Path(file), False) for file in {files!r})
print(json.dumps({{str(one.row.path): one.row.failure.reason for one in finished}}))
"""
    save_model(bright_model(), folder / "bright.onnx")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_a_file_that_kills_every_actor_costs_only_its_row(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    names = [f"{number}.jpg" for number in range(7)]
    ran = _run(ray_cluster, tmp_path, [*names, "deadly.jpg"])
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == dict.fromkeys(names, "empty") | {"deadly.jpg": "crashed"}
    assert "actors died with deadly.jpg" in ran.stderr


def test_the_run_ends_if_all_actors_die(ray_cluster: RayCluster, tmp_path: Path) -> None:
    ran = _run(ray_cluster, tmp_path, [f"{number}/deadly.jpg" for number in range(20)])
    assert ran.returncode == 1
    assert "all actors died" in ran.stderr.splitlines()[-1]


@pytest.fixture
def config(tmp_path: Path) -> ActorConfig:
    from importlib.metadata import version

    save_model(bright_model(), tmp_path / "bright.onnx")
    options = Options(model=str(tmp_path / "bright.onnx"), workers=1)
    ensemble = load_ensemble(options)
    basis = compute_basis(ensemble.models, options)
    own = version("batch-label")
    return ActorConfig(
        options, lambda: ensemble, basis, PartStore(tmp_path / "parts"), "run", own, tmp_path
    )


def test_a_node_with_another_version_refuses(config: ActorConfig) -> None:
    (result,) = _label_first_block(replace(config, version="0.0.1"))
    assert "here it has 0.0.1" in result.problem


def test_a_node_with_other_preprocessing_refuses(config: ActorConfig) -> None:
    (result,) = _label_first_block(replace(config, basis=b"another"))
    assert "preprocessing of photos differs" in result.problem


@pytest.mark.parametrize(
    ("always_answer", "statuses"),
    [(False, ["ok", "no_person"]), (True, ["ok", "unsure"])],
)
def test_an_actor_abstains_as_this_machine_does(
    config: ActorConfig, tmp_path: Path, always_answer: bool, statuses: list[str]
) -> None:
    spec = bright_spec(region=Region.IMAGE, abstain_from={"neither": 0.5, "no_person": 0.5})
    save_model(bright_model(spec), tmp_path / "bright.onnx")
    files = [tmp_path / "bright.png", tmp_path / "dark.png"]
    for file, grey in zip(files, (250, 0), strict=True):
        Image.new("L", (64, 48), grey).save(file)
    options = replace(config.options, always_answer=always_answer)
    ensemble = load_ensemble(options)
    basis = compute_basis(ensemble.models, options)
    asked = replace(config, options=options, ensemble=lambda: ensemble, basis=basis)
    BlockStore(asked.parts, asked.run).write([files], 0)
    (result,) = _label_first_block(asked)
    assert (result.problem, result.unstarted) == ("", 0)
    rows = [finished.row for finished in unpack_part(result.data, basis)]
    assert [row.status for row in rows] == statuses
    assert rows == list(batch.label(files, options))


def _label_first_block(config: ActorConfig) -> list[BlockResult]:
    import pyarrow as pa

    with contextlib.chdir(Path.cwd()):  # an actor moves its process to the folder of the run
        return unpack_results(LabelActor(config)(pa.table({"number": [0]})))


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.engines.ray.connection.RAY_PACKAGES", ("pyarrow_of_nobody",))
    with pytest.raises(UsageError, match=r"pip install 'batch-label\[ray\]'"):
        check_ray_installed()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job((), "-"), "needs a journal"),
        (Job((), "r.csv", options=Options(devices=(1,))), "does not support --devices"),
        (
            Job((), "r.csv", journal=JournalOptions(verify_hash=True)),
            "does not support --verify-hash",
        ),
    ],
)
def test_options_that_a_cluster_does_not_support_are_refused(job: Job, words: str) -> None:
    on_ray = replace(job, cluster=ClusterOptions(EngineKind.RAY))
    with pytest.raises(UsageError, match=words):
        open_engine(on_ray, Stop(), open_log(None, LogFormat.TEXT))


def test_a_run_on_this_machine_does_not_load_ray() -> None:
    program = """
import sys, batch.cli.main, batch.run
heavy = ("ray", "pyarrow", "batch.engines.ray")
assert not {name for name in sys.modules if name.startswith(heavy)}
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("option", ["--actors=2", "--parts=x"])
def test_options_of_clusters_need_one(option: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["label", str(tmp_path), option])
    assert result.exit_code == 2
    assert "add --engine ray" in result.output
