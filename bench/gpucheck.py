"""Whether the GPU answers as the CPU does, and how near it comes to what the cores can decode.

    python -m bench.gpucheck --photos ZIP|FOLDER [--provider cuda] [--devices 0,1] [--json FILE]

Everything is measured in one run: the answers of both, the whole command with several numbers of
workers, decoding alone on all cores, and the ways in which cuDNN can search. Rates are photos a
second. It ends with code 1 where the provider does not run or its answers differ by more than
they may. With --provider cpu the same is done with the CPU as the device: that checks this script
and the gathering of batches, and says nothing of a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from batch.engines.local import LocalEngine
from batch.errors import BatchLabelError, InputError
from batch.options import Options, Provider
from batch.recording.run_record import find_versions
from batch.records import Answer
from bench.rates import measure_commands, measure_decoding, measure_searches

# Integer models compute with floats on a GPU. Of 900 portraits that alone, tried on the CPU, moved
# one probability by 0.042; a wrong layout or colour moves them by far more.
TOLERANCE = 0.1
PROVIDERS = (Provider.CUDA, Provider.TENSORRT, Provider.CPU)
SUFFIXES = (".jpg", ".jpeg")


def main() -> int:
    """Measure, print what was found, and write JSON where that is asked for."""
    given = parse_arguments()
    found: dict[str, Any] = {"gpus": list_gpus(), "versions": find_versions()}
    print("GPUs:", "; ".join(found["gpus"]) or "none that nvidia-smi knows")
    print("versions:", ", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            provider=given.provider, devices=given.devices, engine_cache=Path(folder) / "engines"
        )
        try:
            photos = copy_photos(given.photos, given.count, Path(folder) / "photos")
            pipeline = LocalEngine(options)
            place = pipeline.place
            found["answers"] = compare_providers(photos, pipeline)
            found["decoding"] = measure_decoding(photos, given.runs)
            found["command"] = measure_commands(photos, place, given.runs, given.workers)
            found["search"] = measure_searches(pipeline.ensemble.models, place, given.runs)
        except BatchLabelError as error:
            print(f"no check: {error}", file=sys.stderr)
            return 1
    print(format_figures(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    answers = found["answers"]
    return int(answers["worst"] > TOLERANCE or answers["answered_by_one"] > 0)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = asked.add_argument
    add("--photos", type=Path, required=True, help="a zip file or a folder with JPEGs")
    add("--count", type=int, default=900, help="how many of them")
    add("--provider", choices=PROVIDERS, default=Provider.CUDA, type=Provider)
    add("--devices", type=parse_numbers, default=(0,), help="the GPUs' numbers, such as 0,1")
    add("--runs", type=int, default=3, help="how often a rate is measured; the best counts")
    add(
        "--workers",
        type=parse_numbers,
        help="of the command, such as 16,32 (default: by the cores)",
    )
    add("--json", type=Path, help="also as JSON")
    return asked.parse_args()


def parse_numbers(text: str) -> tuple[int, ...]:
    """Read numbers with commas between them."""
    return tuple(int(word) for word in text.split(","))


def list_gpus() -> list[str]:
    """Name the GPUs of this machine, their drivers and memory; none without nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=index,name,driver_version,memory.total"]
    try:
        ran = subprocess.run([*query, "--format=csv,noheader"], capture_output=True, text=True)
    except OSError:
        return []
    return ran.stdout.splitlines() if ran.returncode == 0 else []


def copy_photos(source: Path, count: int, folder: Path) -> list[Path]:
    """Put the first JPEGs of a zip file or folder into a new folder.

    Raises:
        InputError: there are none.
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
        raise InputError(f"there are no JPEGs in {source}", "give a zip file or folder with some")
    folder.mkdir()
    paths = [folder / f"{number:05}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def compare_providers(photos: list[Path], pipeline: LocalEngine) -> dict[str, Any]:
    """Label all photos on the CPU and on the device, and compare the rows one by one.

    Raises:
        InputError: there is nothing to compare.
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
    place = pipeline.place
    return {
        "provider": place.provider.value,
        "devices": list(place.devices),
        "photos": len(rows),
        # A row without an answer on one side alone would be a difference of 1.
        "answered_by_one": sum((cpu.answer is None) != (own.answer is None) for cpu, own in rows),
        "equal_outcomes": sum(_outcome(cpu) == _outcome(own) for cpu, own in pairs) / len(pairs),
        "equal_faces": sum(len(cpu.faces) == len(own.faces) for cpu, own in rows) / len(rows),
        "median": float(np.median(differences)),
        "worst": max(differences),
    }


def _outcome(answer: Answer) -> str:
    """Give the label or, without one, the status."""
    return answer.label or answer.status


def format_figures(found: dict[str, Any]) -> str:
    """Lay the figures out for people."""
    answers, decoded = found["answers"], found["decoding"]
    devices = ", ".join(map(str, answers["devices"]))
    lines = [
        f"answers of {answers['provider']} (device {devices}) and the CPU to {answers['photos']} "
        f"photos: {answers['equal_outcomes']:.2%} equal outcomes, "
        f"{answers['equal_faces']:.2%} equal numbers of faces, "
        f"probabilities apart by {answers['median']:.6f} (median) to {answers['worst']:.6f}; "
        f"answered by one alone: {answers['answered_by_one']}",
        f"decoding alone, {decoded['cores']} cores: {decoded['rate']:.1f} photos/s",
    ]
    lines += [
        f"the command, {run['workers']} workers: {run['rate']:.1f} photos/s, "
        f"{run['rate'] / decoded['rate']:.0%} of decoding"
        for run in found["command"]
    ]
    for way in found["search"]:
        name = f"cuDNN's search {way['search']}" if way["search"] else "the models"
        lines.append(f"{name}: {way['open_s']:.2f} s to open, {way['batch_ms']:.2f} ms a batch")
    if len(found["search"]) > 1:
        fastest = min(found["search"], key=lambda way: float(way["batch_ms"]))
        lines.append(f"the fastest search a batch: {fastest['search']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
