"""What lies in deploy/ and docs/scheduling.md: its command lines, units, images and alerts."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from batch.cli.default_command import DEFAULT_COMMAND
from batch.cli.main import cli
from batch.errors import ExitCode
from batch.recording.metrics import METRICS
from tests.conftest import REPOSITORY
from tests.support.page_rows import write_report

DEPLOY = REPOSITORY / "deploy"
SERVICE = (DEPLOY / "batch-label.service").read_text(encoding="utf-8")
TIMER = (DEPLOY / "batch-label.timer").read_text(encoding="utf-8")
MAIL = (DEPLOY / "mail-to-root@.service").read_text(encoding="utf-8")
CRON = (DEPLOY / "batch-label.cron").read_text(encoding="utf-8")
RULES = (DEPLOY / "batch-label.rules.yml").read_text(encoding="utf-8")
DOCKERFILES = {name: (DEPLOY / name).read_text() for name in ("Dockerfile", "Dockerfile.cuda")}
DOCS = (REPOSITORY / "docs" / "scheduling.md").read_text(encoding="utf-8")
INSTALLED = "/opt/batch-label/bin/batch-label"
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def tool(name: str) -> str:
    """Find a program beside Python or in the path; without it the test is skipped by its name."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def logical_lines(text: str) -> list[str]:
    return [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines()]


def arguments(line: str) -> Iterator[list[str]]:
    """Give what a line of shell, unit or Docker hands to batch-label."""
    words = shlex.split(line) if "batch-label" in line and "'" not in line else []
    for number, word in enumerate(words):
        is_named = word == "batch-label" and not (number and words[number - 1].startswith("-"))
        if words[number + 1 :] and (is_named or word.endswith("/bin/batch-label")):
            yield words[number + 1 :]


def service_lines() -> list[list[str]]:
    lines = [line.replace("%%", "%") for line in logical_lines(SERVICE) if line[:4] == "Exec"]
    return [args for line in lines for args in arguments(line)]


def cron_lines() -> list[list[str]]:
    jobs = [line for line in CRON.splitlines() if re.match("[0-9*]", line)]
    commands = [line.split(maxsplit=6)[6].replace(r"\%", "%") for line in jobs]
    return [args for command in commands for args in arguments(command)]


def docker_lines(name: str) -> list[list[str]]:
    return [json.loads(text) for text in re.findall("^CMD (.*)$", DOCKERFILES[name], re.MULTILINE)]


def documented_lines() -> list[list[str]]:
    """Take the indented blocks of code alone, not what the text says."""
    code = "\n".join(line for line in DOCS.splitlines() if line.startswith("    "))
    lines = [line.replace("%%", "%") for line in logical_lines(code)]
    return [args for line in lines for args in arguments(line)]


def parsed(args: Sequence[str]) -> click.Context:
    """Let the real command line take the arguments, without running anything."""
    name, rest = (args[0], args[1:]) if args[0] in cli.commands else (DEFAULT_COMMAND, args)
    # Within the group, for a command remembers what its first context calls the option for help.
    group = click.Context(cli, **cli.context_settings)
    return cli.commands[name].make_context(name, list(rest), parent=group)


def manifests() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    documents = yaml.safe_load_all((DEPLOY / "cronjob.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def job() -> Any:
    return manifests()["CronJob"]["spec"]["jobTemplate"]["spec"]


def container() -> Any:
    (only,) = job()["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize(
    "args",
    [
        *service_lines(),
        *cron_lines(),
        *docker_lines("Dockerfile"),
        *docker_lines("Dockerfile.cuda"),
        *documented_lines(),
    ],
    ids=" ".join,
)
def test_every_command_line_is_one_that_batch_label_takes(args: list[str]) -> None:
    assert parsed(args)


def test_what_root_installs_and_does_by_hand_suits_the_service_s_user() -> None:
    setup = DOCS.partition("\n    umask 022\n")[2].partition("\n\n")[0]
    assert "/opt/batch-label/bin/pip install" in setup, "or a umask of 027 keeps the user out"
    assert "first four lines" in DOCS
    assert setup.splitlines()[2].split()[0].endswith("pip")
    (umask,) = re.findall(r"^UMask=0(\d+)$", SERVICE, re.MULTILINE)
    before = [text.rstrip().splitlines()[-1].strip() for text in DOCS.split(" runuser -u ")[:-1]]
    assert before == [f"umask {umask}"]


def test_the_command_line_of_the_cron_job_is_one_that_batch_label_takes() -> None:
    assert parsed(container()["args"])


def test_command_lines_are_found_where_they_are() -> None:
    assert len(service_lines()) == len(cron_lines()) == 2
    assert len(docker_lines("Dockerfile")) == len(docker_lines("Dockerfile.cuda")) == 1
    assert len(documented_lines()) >= 4
    assert ["diff", "results.csv"] in [args[:2] for args in documented_lines()]
    with pytest.raises(click.UsageError):
        parsed(["photos", "--no-such-option"])


def test_the_jobs_agree_on_what_they_do() -> None:
    (service, page), (cron, page_of_cron) = service_lines(), cron_lines()
    assert page == page_of_cron
    assert page[:2] == ["report", service[service.index("--output") + 1]]
    assert [arg for arg in service if arg not in ("--log-format", "json")] == cron
    shown = next(args for args in documented_lines() if "--deadline" in args)
    assert shown == service
    (cpu,), (cuda,) = docker_lines("Dockerfile"), docker_lines("Dockerfile.cuda")
    assert [arg for arg in cuda if arg not in ("--provider", "cuda")] == cpu
    for option in ("--output", "--state", "--metrics-file", "--keep", "--quiet"):
        assert option in service
        assert option in cpu
    kept = {args[args.index("--keep") + 1] for args in (service, cpu)}
    assert {f"--keep={number}" for number in kept} == {
        arg for arg in container()["args"] if "--keep" in arg
    }


def test_the_marker_file_is_a_commented_example_everywhere() -> None:
    kube = (DEPLOY / "cronjob.yaml").read_text(encoding="utf-8")
    for text in (SERVICE, CRON, kube):
        lines = [line for line in text.splitlines() if "--require-file" in line]
        assert lines
        assert all(line.lstrip().startswith("#") for line in lines)
    assert parsed(["photos", "--require-file", ".mounted"])
    assert parsed(["photos", "--require-file=.mounted"])


def test_no_job_lets_onnx_runtime_report_home() -> None:
    assert f"\nEnvironment={NO_TELEMETRY}=1\n" in SERVICE
    assert f"\n{NO_TELEMETRY}=1\n" in CRON
    for text in DOCKERFILES.values():
        assert re.search(rf"^ENV .*(\\\n.*)*\b{NO_TELEMETRY}=1\b", text, re.MULTILINE)
    assert f"{{name: {NO_TELEMETRY}, value: " in (DEPLOY / "cronjob.yaml").read_text()


def test_onnx_runtime_keeps_nothing_in_the_home(photos: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(home), NO_TELEMETRY: "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "batch", photos], env=env, capture_output=True, text=True
    )
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert list(home.rglob("*")) == []


# systemd


def verified(folder: Path, service: str, drop_in: str = "") -> str:
    """Give what `systemd-analyze verify` has to say of the units, with a program that exists."""
    program = folder / "batch-label"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = [
        folder / "batch-label.service",
        folder / "batch-label.timer",
        folder / "mail-to-root@batch-label.service.service",
    ]
    units[0].write_text(service.replace(INSTALLED, str(program)))
    units[1].write_text(TIMER)
    units[2].write_text(MAIL)
    if drop_in:
        beside = folder / "batch-label.service.d"
        beside.mkdir()
        (beside / "override.conf").write_text(drop_in.replace(INSTALLED, str(program)))
    ran = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", *units],
        capture_output=True,
        text=True,
    )
    # Other units of the machine are none of ours.
    said = [line for line in ran.stderr.splitlines() if "batch-label" in line]
    return "\n".join(said) or ("" if ran.returncode == 0 else ran.stderr)


def test_two_nights_of_the_service_leave_a_page_of_the_changes(
    photos: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (state / "metrics").mkdir(parents=True)
    places = {"/srv/photos": str(photos), "/var/lib/batch-label": str(state)}

    def run_night() -> None:
        for args in service_lines():
            words = [re.sub("|".join(places), lambda m: places[m[0]], word) for word in args]
            if "--deadline" in words:  # this test may run at that time
                del words[words.index("--deadline") : words.index("--deadline") + 2]
            ran = subprocess.run(
                [sys.executable, "-m", "batch", *words],
                cwd=state,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), NO_TELEMETRY: "1"},
                capture_output=True,
                text=True,
            )
            assert (ran.returncode, ran.stderr) == (ExitCode.OK, ""), args

    run_night()
    first = (state / "results.html").read_bytes()
    shutil.copy(min(photos.glob("*.*")), photos / "new.jpg")
    run_night()
    assert (state / "results.html").read_bytes() != first
    kept = sorted((state / "results.csv.history").glob("results-*Z.csv"))
    assert len(kept) == 2
    assert kept[1].samefile(state / "results.csv")
    documented = {".cache/", ".config/", ".results.csv.*"}
    documented |= set(re.findall(r"^\| `([^`]+)`.* \| (?:yes|no|with|opt)", DOCS, re.MULTILINE))
    left = {f"{path.name}/" if path.is_dir() else path.name for path in state.iterdir()}
    assert {name.replace("metrics/", "metrics/batch-label.prom") for name in left} <= documented


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    assert verified(tmp_path, SERVICE) == ""


def test_systemd_would_find_a_mistake_in_the_units(tmp_path: Path) -> None:
    assert "PrivateTemp" in verified(tmp_path, SERVICE.replace("PrivateTmp", "PrivateTemp"))


DROP_INS = re.findall(r"^    (\[(?:Unit|Service)\]\n(?:    .*\n)+)", DOCS, re.MULTILINE)


@pytest.mark.parametrize("drop_in", DROP_INS)
def test_systemd_takes_the_documented_drop_ins(tmp_path: Path, drop_in: str) -> None:
    lines = [line.strip() for line in drop_in.splitlines()]
    assert verified(tmp_path, SERVICE, "\n".join(lines) + "\n") == ""


def test_the_drop_ins_are_found_and_a_mistake_in_one_too(tmp_path: Path) -> None:
    assert len(DROP_INS) == 3
    (sidecars,) = (drop_in for drop_in in DROP_INS if "ReadWritePaths" in drop_in)
    (own,) = (line for line in logical_lines(SERVICE) if line.startswith("ExecStart="))
    (cleared, changed) = (line for line in logical_lines(sidecars) if line.startswith("Exec"))
    assert (cleared, changed) == ("ExecStart=", f"{own} --xmp")
    assert "ReadOnlyPath" in verified(tmp_path, SERVICE, "[Service]\nReadOnlyPath=\n")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("batch-label.service", SERVICE, r"gives it ([0-9.]+) of 10"),
        ("mail-to-root@.service", MAIL, r"mail-to-root@.service` gets ([0-9.]+)"),
    ],
)
def test_a_service_is_as_hard_as_the_document_says(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    (tmp_path / name).write_text(text)
    ran = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", tmp_path / name],
        capture_output=True,
        text=True,
    )
    if ran.returncode and "exposure" not in ran.stdout:
        pytest.skip(f"systemd-analyze can't judge a file here: {ran.stderr.strip()}")
    level = re.search(r"exposure level for [^ ]+\.service: ([0-9.]+)", ran.stdout)
    documented = re.search(sentence, DOCS)
    assert level
    assert documented
    assert float(level[1]) <= float(documented[1])


def system_calls() -> set[str]:
    """Give the system calls that the service's filter lets through."""
    text = subprocess.run(
        [tool("systemd-analyze"), "syscall-filter"], capture_output=True, text=True, check=True
    ).stdout
    groups = {
        block.split()[0]: [line.strip() for line in block.splitlines()[1:] if "#" not in line]
        for block in re.split(r"\n(?=@)", text.strip())
    }

    def members(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {call for inner in groups[name] if inner for call in members(inner)}

    calls: set[str] = set()
    for given in re.findall("^SystemCallFilter=(~?)(.*)$", SERVICE, re.MULTILINE):
        named = {call for name in given[1].split() for call in members(name)}
        calls = calls - named if given[0] else calls | named
    return calls


def test_a_run_makes_no_system_call_that_the_service_forbids(photos: Path, tmp_path: Path) -> None:
    counted, made = tmp_path / "calls", set()
    for args in (["photos", "-o", "r.csv", "--workers", "2", "--keep", "3"], ["report", "r.csv"]):
        ran = subprocess.run(
            [tool("strace"), "-f", "-c", "-o", counted, sys.executable, "-m", "batch", *args],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), NO_TELEMETRY: "1"},
            capture_output=True,
            text=True,
        )
        if not (tmp_path / "r.csv").exists() and "ptrace" in ran.stderr:
            pytest.skip(f"strace may not look at processes here: {ran.stderr.strip()}")
        assert ran.returncode == ExitCode.OK, ran.stderr
        lines = [line.split() for line in counted.read_text().splitlines()[2:]]
        made |= {words[-1] for words in lines if len(words) > 3 and words[-1].isidentifier()}
    made.discard("total")
    assert {"openat", "link"} <= made
    # SQLite gives its files to their owner where it runs as root, as the service does not.
    as_root = {"fchown"} if os.geteuid() == 0 else set()
    assert made - as_root <= system_calls()


@pytest.mark.parametrize(
    "args", [["photos", "-o", "r.csv", "--provider", "cpu"], ["report", "saved.csv"]]
)
def test_no_command_needs_memory_that_is_written_and_executed(
    photos: Path, tmp_path: Path, args: list[str]
) -> None:
    write_report(tmp_path / "saved.csv")
    # What MemoryDenyWriteExecute= asks for: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN).
    script = (
        "import ctypes, runpy, sys\n"
        "refused = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)\n"
        "if refused: sys.exit(99)\n"
        "runpy.run_module('batch', run_name='__main__')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *args],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), NO_TELEMETRY: "1"},
        capture_output=True,
        text=True,
    )
    if ran.returncode == 99:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert ran.returncode == ExitCode.OK, ran.stderr


def mail_command(unit: str, host: str = "nas") -> list[str]:
    """Give what systemd runs to mail about a unit, with its specifiers and escapes replaced."""
    (line,) = (line for line in logical_lines(MAIL) if line.startswith("ExecStart="))
    # As systemd does: first the words, then the specifiers in each, then the variables.
    words = shlex.split(line.removeprefix("ExecStart="))
    values = {"%%": "%", "%i": unit, "%H": host}
    words = [re.sub("%.", lambda match: values[match[0]], word) for word in words]
    assert not re.search(r"(?<!\$)\$(?!\$)", words[2]), "systemd would replace it"
    return [words[0], words[1], words[2].replace("$$", "$"), *words[3:]]


@pytest.mark.parametrize(
    "unit",
    ["batch-label.service", r"disk@srv-a\x2db.service", "-.mount", "$(touch broken)'\"; exit 9"],
)
def test_a_failed_unit_is_mailed_with_its_last_lines(tmp_path: Path, unit: str) -> None:
    fakes = {
        "systemctl": 'echo "status: $*"; echo "warning" >&2; exit 3',
        "journalctl": 'echo "log: $*"',
        "sendmail": 'echo "$*" > args; cat > mail',
    }
    for name, script in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(
        mail_command(unit), cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout + ran.stderr == ""
    head, _, body = (tmp_path / "mail").read_text().partition("\n\n")
    assert head.splitlines()[:2] == ["To: root", f"Subject: {unit} failed on nas"]
    assert "-t" in (tmp_path / "args").read_text().split()
    assert body.splitlines() == [
        f"status: status --no-pager --full --lines=0 -- {unit}",
        "warning",
        "",
        f"log: --no-pager --quiet --lines=50 --unit={unit}",
    ]
    assert not (tmp_path / "broken").exists()
    (tmp_path / "sendmail").write_text("#!/bin/sh\nexit 75\n")
    assert subprocess.run(mail_command(unit), cwd=tmp_path, env=env).returncode == 75


def test_the_service_names_the_unit_that_mails() -> None:
    (named,) = re.findall(r"^#OnFailure=(.*)$", SERVICE, re.MULTILINE)
    assert named == "mail-to-root@%n.service"
    assert "OnFailure=mail-to-root@%n.service" in MAIL
    assert f"OnFailure={named}" in DOCS


def test_the_timer_starts_what_there_is() -> None:
    assert "OnCalendar=" in TIMER
    assert "Persistent=true" in TIMER
    assert "RandomizedDelaySec=" in TIMER
    assert "Unit=" not in TIMER, "it starts the service of its own name"


def test_the_line_for_cron_is_one_that_cron_takes() -> None:
    lines = [line for line in CRON.splitlines() if re.match("[0-9*]", line)]
    assert len(lines) == 2
    for line in lines:
        assert len(line) < 1000, "cron cuts off what is longer"
        assert re.findall(r"(?<!\\)%", line) == [], "a bare % is a newline to cron"
    assert CRON.endswith("\n"), "cron passes over a last line without its end"


# Exit codes


def exit_codes() -> dict[int, list[str]]:
    section = DOCS.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return {int(row[0]): row[1:] for row in cells[1:] if row[0].isdigit()}


def test_every_exit_code_is_documented() -> None:
    assert sorted(exit_codes()) == sorted(map(int, ExitCode))


def test_systemd_s_idea_of_success_is_the_documented_one() -> None:
    documented = {code for code, row in exit_codes().items() if row[1] == "success"}
    (given,) = re.findall("^SuccessExitStatus=(.*)$", SERVICE, re.MULTILINE)
    assert {0, *map(int, given.split())} == documented


def test_kubernetes_tries_again_where_it_is_documented() -> None:
    documented = {code for code, row in exit_codes().items() if row[3].startswith("Job failed")}
    rules = job()["podFailurePolicy"]["rules"]
    (values,) = (rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule)
    assert set(values) == documented


# Kubernetes


def test_the_pod_may_do_nothing_but_read_photos_and_write_its_state() -> None:
    spec, only = job()["template"]["spec"], container()
    assert spec["restartPolicy"] == "Never", "podFailurePolicy needs it"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount for mount in only["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert set(mounts) == set(volumes)
    assert mounts["photos"]["readOnly"] is True
    assert volumes["photos"]["persistentVolumeClaim"]["readOnly"] is True
    claim = manifests()["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == claim
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILES["Dockerfile"], re.MULTILINE)
    context = spec["securityContext"]
    assert user == [(str(context["runAsUser"]), str(context["runAsGroup"]))]


def test_the_cron_job_is_bounded() -> None:
    cron = manifests()["CronJob"]["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    assert job()["activeDeadlineSeconds"] > 0
    resources = container()["resources"]
    assert {"cpu", "memory"} <= set(resources["limits"])
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert f"--workers={resources['limits']['cpu']}" in container()["args"]


def test_the_network_policy_is_for_the_job_s_pods() -> None:
    labels = job()["template"]["metadata"]["labels"]
    policy = manifests()["NetworkPolicy"]["spec"]
    assert policy == {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"],
    }


# Images


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    ran = subprocess.run(
        [tool("hadolint"), "--no-color", DEPLOY / name], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout == ""


@pytest.mark.parametrize("text", DOCKERFILES.values(), ids=DOCKERFILES)
def test_an_image_is_small_pinned_and_not_root_s(text: str) -> None:
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    bases = [stage.split()[0] for stage in stages]
    assert bases[0] == bases[1], "the environment is made for the Python that it was made with"
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases[0])
    final = stages[1]
    assert not re.search(r"apt-get|pip install|pip wheel|gcc|make", final)
    assert "pip uninstall --yes pip" in final
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
    assert "\nHEALTHCHECK NONE\n" in final
    assert "\nSTOPSIGNAL SIGTERM\n" in final
    assert '\nENTRYPOINT ["batch-label"]\n' in final, "in exec form, so that signals reach it"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_builder_is_sent_what_it_copies_and_no_more(name: str) -> None:
    lines = (DEPLOY / f"{name}.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILES[name], re.MULTILINE)
    assert {source for sources in copied for source in sources.split()} == sent
    assert "*" in lines
    for source in sent:
        assert (REPOSITORY / source).exists(), source


def test_the_wheel_is_made_of_what_the_builder_is_sent() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    needed |= {*project["project"]["license-files"], "pyproject.toml"}
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert needed == {line[1:] for line in lines if line.startswith("!")}


def test_the_image_for_the_cpu_asks_for_the_cpu_s_onnx_runtime(tmp_path: Path) -> None:
    (command,) = re.findall(r"^RUN (sed .*) \\$", DOCKERFILES["Dockerfile"], re.MULTILINE)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)

    def needs(file: Path) -> list[str]:
        return list(tomllib.loads(file.read_text())["project"]["dependencies"])

    before, after = needs(REPOSITORY / "pyproject.toml"), needs(tmp_path / "pyproject.toml")
    runtimes = [need for need in after if need.startswith("onnxruntime")]
    assert [re.sub(r">=[0-9.]+$", "", need) for need in runtimes] == ["onnxruntime"]
    assert set(before) - set(after) == {need for need in before if "onnxruntime" in need}
    assert len(before) - len(after) == 1


# Alerts


def test_alerts_and_documents_name_metrics_that_there_are() -> None:
    names = {metric.name for metric in METRICS}
    used = set(re.findall(r"\bbatch_label_[a-z_]+", RULES))
    assert used <= names
    assert len(used) >= 5
    assert set(re.findall(r"\bbatch_label_[a-z_]+", DOCS)) <= names


def test_the_documented_alerts_are_those_of_the_rules() -> None:
    documented = re.findall(r"^\| `(BatchLabel\w+)`", DOCS, re.MULTILINE)
    assert documented == re.findall(r"- alert: (\w+)", RULES)


def test_the_rules_are_yaml_with_an_expression_each() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (group,) = yaml.safe_load(RULES)["groups"]
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["expr"]
        assert rule["annotations"]["summary"]


def test_the_alerts_ring_when_they_should(tmp_path: Path) -> None:
    def series(report: str, **values: str) -> list[dict[str, str]]:
        labels = f'instance="nas",report="{report}"'
        names = {name: f"batch_label_{name}" for name in values}
        names["photos"] = 'batch_label_photos{status="failed",'
        return [
            {
                "series": names[name] + ("" if "{" in names[name] else "{") + labels + "}",
                "values": text,
            }
            for name, text in values.items()
        ]

    good = {"last_run_exit_code": "3x2400", "last_success_timestamp_seconds": "0+60x2400"}
    bad = {"last_run_exit_code": "1x2400", "last_success_timestamp_seconds": "0x2400"}
    sound = {"photos_found": "1000x2400", "photos": "2x2400", "drift_warnings": "0x2400"}
    ill = {"photos_found": "1000x2000 500x400", "photos": "20x2400", "drift_warnings": "1x2400"}
    kube = {"series": 'kube_cronjob_status_last_successful_time{cronjob="batch-label"}'}
    rings = dict.fromkeys(re.findall(r"- alert: (\w+)", RULES), 1) | {"BatchLabelFailed": 2}
    test = {
        "rule_files": [str(DEPLOY / "batch-label.rules.yml")],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    *series("good", **good, **sound),
                    *series("bad", **bad, **ill),
                    *series("never", last_run_exit_code="4x2400"),
                    kube | {"values": "0x2400"},
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "2390m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": count}
                            for name, count in rings.items()
                        ],
                    },
                    {
                        "expr": 'count(ALERTS{report="good"})',
                        "eval_time": "2390m",
                        "exp_samples": [],
                    },
                ],
            }
        ],
    }
    (tmp_path / "alerts.yml").write_text(json.dumps(test))
    ran = subprocess.run(
        [tool("promtool"), "test", "rules", tmp_path / "alerts.yml"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_file_is_documented() -> None:
    for path in DEPLOY.iterdir():
        assert f"`{path.name}`" in DOCS or path.suffix == ".dockerignore", path.name
