"""Checks that a GPU gives the answers of the CPU, and how close it comes to the decoding rate.

    python -m bench.gpucheck --photos ZIP|FOLDER [--provider cuda] [--devices 0,1] [--json FILE]

One run measures the answers of both, the whole command with several numbers of workers, decoding
alone on all cores, a short training on both, and each cuDNN algorithm search. Rates are photos per
second. The exit code is 1 if the provider or the training does not run, or if answers differ by
more than the tolerance. With --provider cpu the CPU takes the place of the GPU: this tests the
script and the batching, but no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from batch.engines.local import LocalEngine
from batch.errors import BatchLabelError, ExitCode, InputError, ProviderError
from batch.inference.session import open_session
from batch.models.model import Model
from batch.options import DEFAULT_BATCH_SIZE, ConvolutionSearch, Device, Options, Provider
from batch.parallel import available_cores
from batch.recording.run_record import find_versions
from batch.records import Answer, Failure, Photo
from batch.vision.decode import decode_bytes
from batch.vision.read_file import read_file_with_state
from trainer.training.epoch_metrics import HISTORY_FILE, read_history

# A GPU runs integer models with floats. On 900 portraits that alone, tried on the CPU, moved one
# probability by 0.042; a wrong layout or colour order moves them by far more.
TOLERANCE = 0.1
PROVIDERS = (Provider.CUDA, Provider.TENSORRT, Provider.CPU)
SUFFIXES = (".jpg", ".jpeg")
# Workers mostly wait for the GPU, so more workers than cores may be faster.
WORKERS_PER_CORE = (1, 2, 4)
TRAINED_EPOCHS = 2
# Photos that each process decodes before the clock starts, and photos per task.
WARM_UP, CHUNK = 4, 4


def main() -> int:
    """Measure, print the figures, write JSON on request, and return the exit code."""
    given = parse_arguments()
    found: dict[str, Any] = {"gpus": list_gpus(), "versions": find_versions()}
    print("GPUs:", "; ".join(found["gpus"]) or "none listed by nvidia-smi")
    print("versions:", ", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            provider=given.provider, devices=given.devices, engine_cache=Path(folder) / "engines"
        )
        try:
            photos = copy_photos(given.photos, given.count, Path(folder) / "photos")
            pipeline = LocalEngine(options)
            device = pipeline.device
            found["answers"] = compare_providers(photos, pipeline)
            found["decoding"] = measure_decoding(photos, given.runs)
            found["command"] = measure_commands(photos, device, given.runs, given.workers)
            found["training"] = compare_training(device)
            found["search"] = measure_searches(pipeline.ensemble.models, device, given.runs)
        except BatchLabelError as error:
            print(f"no check: {error}", file=sys.stderr)
            return 1
    print(format_figures(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    answers = found["answers"]
    return int(answers["worst"] > TOLERANCE or answers["answered_by_one"] > 0)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--photos", type=Path, required=True, help="zip file or folder of JPEGs")
    add("--count", type=int, default=900, help="number of photos")
    add("--provider", choices=PROVIDERS, default=Provider.CUDA, type=Provider)
    add("--devices", type=parse_numbers, default=(0,), help="GPU numbers, such as 0,1")
    add("--runs", type=int, default=3, help="measurements of each rate; the best one counts")
    add(
        "--workers",
        type=parse_numbers,
        help="numbers of workers of the command, such as 16,32 (default: by the cores)",
    )
    add("--json", type=Path, help="also write the figures to this file as JSON")
    return parser.parse_args()


def parse_numbers(text: str) -> tuple[int, ...]:
    """Parse comma-separated numbers."""
    return tuple(int(word) for word in text.split(","))


def list_gpus() -> list[str]:
    """List the GPUs of this machine with driver and memory; empty without nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=index,name,driver_version,memory.total"]
    try:
        ran = subprocess.run([*query, "--format=csv,noheader"], capture_output=True, text=True)
    except OSError:
        return []
    return ran.stdout.splitlines() if ran.returncode == 0 else []


def copy_photos(source: Path, count: int, folder: Path) -> list[Path]:
    """Copy the first JPEGs of a zip file or folder into a new folder.

    Raises:
        InputError: there are no JPEGs.
    """
    contents: list[bytes] = []
    if source.is_dir():
        names = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        contents = [path.read_bytes() for path in names[:count]]
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as pack:
            inside = [name for name in pack.namelist() if name.lower().endswith(SUFFIXES)]
            contents = [pack.read(name) for name in inside[:count]]
    if not contents:
        raise InputError(f"no JPEGs in {source}", "give a zip file or folder with JPEGs")
    folder.mkdir()
    paths = [folder / f"{number:05}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def compare_providers(photos: list[Path], pipeline: LocalEngine) -> dict[str, Any]:
    """Label all photos on the CPU and on the device, and compare them row by row.

    Raises:
        InputError: no photo got an answer from both.
    """
    alone = LocalEngine(Options(provider=Provider.CPU))
    rows = list(zip(alone.label_in_order(photos), pipeline.label_in_order(photos), strict=True))
    pairs = [(cpu.answer, own.answer) for cpu, own in rows if cpu.answer and own.answer]
    if not pairs:
        raise InputError("no photo was answered by both", "give photos that can be read")
    differences = [
        max(abs(cpu.probabilities[name] - own.probabilities[name]) for name in cpu.probabilities)
        for cpu, own in pairs
    ]
    device = pipeline.device
    return {
        "provider": device.provider.value,
        "devices": list(device.devices),
        "photos": len(rows),
        # Such rows have no probabilities to compare; they count as failures of the check.
        "answered_by_one": sum((cpu.answer is None) != (own.answer is None) for cpu, own in rows),
        "equal_outcomes": sum(_outcome(cpu) == _outcome(own) for cpu, own in pairs) / len(pairs),
        "equal_faces": sum(len(cpu.faces) == len(own.faces) for cpu, own in rows) / len(rows),
        "median": float(np.median(differences)),
        "worst": max(differences),
    }


def _outcome(answer: Answer) -> str:
    """Return the label or, without one, the status."""
    return answer.label or answer.status


def measure_decoding(photos: list[Path], runs: int) -> dict[str, float]:
    """Read and decode all photos, one process per core: the limit that no GPU can raise."""
    cores, rates = available_cores(), []
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        list(pool.map(_is_decoded, photos[:1] * cores * WARM_UP))  # starts all processes
        for _ in range(runs):
            started = time.perf_counter()
            decoded = sum(pool.map(_is_decoded, photos, chunksize=CHUNK))
            rates.append(decoded / (time.perf_counter() - started))
    return {"cores": cores, "rate": max(rates)}


def _is_decoded(path: Path) -> bool:
    read = read_file_with_state(path)
    return not isinstance(read, Failure) and isinstance(decode_bytes(path, read[0]), Photo)


def measure_commands(
    photos: list[Path], place: Device, runs: int, workers: tuple[int, ...] | None
) -> list[dict[str, float]]:
    """Run the whole command, start-up and journal included, with several numbers of workers."""
    where = ["--provider", place.provider.value]
    if place.provider is not Provider.CPU:
        where += ["--devices", ",".join(map(str, place.devices))]
    results = []
    for number in workers or [available_cores() * each for each in WORKERS_PER_CORE]:
        timed = [measure_command(photos, number, where) for _ in range(runs)]
        results.append({"workers": number, "rate": max(timed)})
    return results


def measure_command(photos: list[Path], workers: int, where: list[str]) -> float:
    """Run the command once and return its rate; ``where`` names the provider, so no fallback.

    Raises:
        ProviderError: the command labelled nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = ["-o", str(Path(folder) / "r.csv"), "-q", "--workers", str(workers), *where]
        started = time.perf_counter()
        ran = subprocess.run([sys.executable, "-m", "batch", str(photos[0].parent), *own])
        passed = time.perf_counter() - started
    if ran.returncode not in (ExitCode.OK, ExitCode.INCOMPLETE):
        raise ProviderError(
            f"the command ended with code {ran.returncode}", "see its messages above"
        )
    return len(photos) / passed


def compare_training(place: Device) -> list[dict[str, Any]]:
    """Train on drawn faces on the CPU and on the device, by the whole command.

    Raises:
        ProviderError: a training failed, or did not run on the GPU.
    """
    results = []
    for on_gpu in (False, place.provider is not Provider.CPU):
        hidden = {} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}
        with tempfile.TemporaryDirectory() as folder:
            own = ["--data", "drawn", "--epochs", str(TRAINED_EPOCHS), "--run", f"{folder}/run"]
            started = time.perf_counter()
            ran = subprocess.run(
                [sys.executable, "-m", "trainer", "train", *own],
                env={**os.environ, **hidden},
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            passed = time.perf_counter() - started
            started_on = re.search(r"parameters on (\S+) in (\S+)", ran.stderr)
            if ran.returncode or not started_on or (started_on[1] == "cpu") is on_gpu:
                raise ProviderError(
                    f"the training failed or did not run on the {'GPU' if on_gpu else 'CPU'}: "
                    f"{ran.stderr.strip()[-500:]}",
                    "install a PyTorch that matches the driver",
                )
            history = read_history(Path(folder) / "run" / HISTORY_FILE)
        results.append(
            {
                "device": started_on[1],
                "format": started_on[2],
                "seconds": passed,
                "validation_loss": history["validation_loss"][-1],
            }
        )
    return results


def measure_searches(models: Sequence[Model], place: Device, runs: int) -> list[dict[str, Any]]:
    """Open the models with each algorithm search and run full batches; the CPU has no search."""
    on_gpu = place.provider is not Provider.CPU
    ways = list(ConvolutionSearch) if on_gpu else [place.search]
    return [
        {"search": way.value if on_gpu else None}
        | measure_search(models, replace(place, search=way), runs)
        for way in ways
    ]


def measure_search(models: Sequence[Model], place: Device, runs: int) -> dict[str, float]:
    """Measure the seconds to open all models, and the milliseconds of one full batch of each."""
    random = np.random.default_rng(0)
    opened, spent = 0.0, 0.0
    for model in models:
        shape = (DEFAULT_BATCH_SIZE, model.height, model.width, model.channels)
        batch = random.integers(0, 256, shape, dtype=np.uint8)
        started = time.perf_counter()
        session = open_session(model.graph, place, batch[:1], batch=len(batch))
        opened += time.perf_counter() - started
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            session.run(batch)
            times.append(time.perf_counter() - started)
        spent += min(times)
    return {"open_s": opened, "batch_ms": spent * 1000}


def format_figures(found: dict[str, Any]) -> str:
    """Format the figures as text."""
    answers, decoded = found["answers"], found["decoding"]
    devices = ", ".join(map(str, answers["devices"]))
    lines = [
        f"answers of {answers['provider']} (device {devices}) and the CPU to {answers['photos']} "
        f"photos: {answers['equal_outcomes']:.2%} equal outcomes, "
        f"{answers['equal_faces']:.2%} equal numbers of faces, "
        f"probabilities differ by {answers['median']:.6f} (median) to {answers['worst']:.6f}; "
        f"answered by only one: {answers['answered_by_one']}",
        f"decoding alone, {decoded['cores']} cores: {decoded['rate']:.1f} photos/s",
    ]
    lines += [
        f"the command, {run['workers']} workers: {run['rate']:.1f} photos/s, "
        f"{run['rate'] / decoded['rate']:.0%} of decoding"
        for run in found["command"]
    ]
    lines += [
        f"{TRAINED_EPOCHS} epochs of training on {run['device']} in {run['format']}: "
        f"{run['seconds']:.1f} s, validation loss {run['validation_loss']:.4f}"
        for run in found["training"]
    ]
    for way in found["search"]:
        name = f"cuDNN search {way['search']}" if way["search"] else "the models"
        lines.append(f"{name}: {way['open_s']:.2f} s to open, {way['batch_ms']:.2f} ms per batch")
    if len(found["search"]) > 1:
        fastest = min(found["search"], key=lambda way: float(way["batch_ms"]))
        lines.append(f"fastest search per batch: {fastest['search']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
