"""deploy/kuberay.yaml and its image: what hangs together in them does."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.project.test_deploy import parsed, tool

DEPLOY = REPOSITORY / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile.ray").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    documents = list(yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text(encoding="utf-8")))
    return {
        f"{document['kind']} {document['metadata']['name']}": document for document in documents
    }


@pytest.fixture(scope="module")
def job(manifests: dict[str, Any]) -> Any:
    return manifests["RayJob batch-label-ray"]["spec"]


def _templates(job: Any) -> list[Any]:
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def test_the_command_line_is_one_that_batch_label_takes(job: Any) -> None:
    program, *args = shlex.split(job["entrypoint"])
    assert program == "batch-label"
    given = parsed(args).params
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    cores = int(worker["resources"]["limits"]["cpu"])
    assert given["engine"] == "ray"
    assert given["actors"] == group["replicas"] * cores
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_run_ends_by_itself_before_it_is_ended(job: Any) -> None:
    given = parsed(shlex.split(job["entrypoint"])[1:]).params
    hours = int(given["time_limit"].removesuffix("h"))
    assert hours * 3600 < job["activeDeadlineSeconds"]


def test_all_nodes_have_photos_and_parts_and_only_the_head_has_the_journal(
    job: Any, manifests: dict[str, Any]
) -> None:
    head, worker = _templates(job)
    shared = {"photos": "/photos", "parts": "/parts", "tmp": "/tmp"}
    assert _mounts(head) == shared | {"state": "/state"}
    assert _mounts(worker) == shared
    for template in (head, worker):
        for volume in template["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName", "photos")
            assert claim == "photos" or f"PersistentVolumeClaim {claim}" in manifests
    modes = {
        name.split("-")[-1]: document["spec"]["accessModes"]
        for name, document in manifests.items()
        if name.startswith("PersistentVolumeClaim")
    }
    assert modes == {"state": ["ReadWriteOnce"], "parts": ["ReadWriteMany"]}


def _mounts(template: Any) -> dict[str, str]:
    (container,) = template["spec"]["containers"]
    assert {volume["name"] for volume in template["spec"]["volumes"]} == {
        mount["name"] for mount in container["volumeMounts"]
    }
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def test_pods_may_do_little_and_are_all_behind_the_policy(
    job: Any, manifests: dict[str, Any]
) -> None:
    policy = manifests["NetworkPolicy batch-label-ray"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    for template in _templates(job):
        assert template["metadata"]["labels"] == policy["podSelector"]["matchLabels"]
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        (container,) = spec["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} == set(container["resources"]["limits"])
        off = {entry["name"]: entry["value"] for entry in container["env"]}
        assert off == {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def test_ray_has_one_version_everywhere(job: Any) -> None:
    own = job["rayClusterSpec"]["rayVersion"]
    assert f"\nFROM rayproject/ray:{own}-py311-cpu\n" in DOCKERFILE


def test_the_image_is_made_as_that_for_one_machine() -> None:
    (ours,) = re.findall(r"^RUN sed .*$", DOCKERFILE, re.MULTILINE)
    assert ours in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    ignored = (DEPLOY / "Dockerfile.ray.dockerignore").read_text(encoding="utf-8")
    assert ignored == (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")


def test_hadolint_finds_nothing() -> None:
    ran = subprocess.run(
        [tool("hadolint"), "--no-color", DEPLOY / "Dockerfile.ray"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout == ""
