"""Makes the page of a training: one self-contained HTML file, and its problems as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from batch.errors import InputError, OutputError
from batch.files.publish import Draft
from batch.files.regular_file import open_regular
from batch.os_errors import translate_write_errors
from batch.path_text import printable_text
from trainer.datasets.dataset import Dataset
from trainer.evaluation.tables import MIN_SAMPLES, describe_groups
from trainer.networks import count_parameters
from trainer.page import content
from trainer.page.answers import MeasuredAnswers, answer_held_out
from trainer.page.plots import (
    draw_curves,
    draw_recalls,
    draw_reliability,
)
from trainer.page.problems import (
    COLUMNS,
    DataProblems,
    Judge,
    find_problems,
    format_problems,
)
from trainer.training.checkpoint import (
    CHECKPOINT_FILE,
    TrainedNetwork,
    load_trained_network,
)
from trainer.training.config import Config
from trainer.training.epoch_metrics import EPOCH, HISTORY_FILE, History, read_history
from trainer.training.pretrained import build_network

PAGE_FILE, PROBLEMS_FILE = "training.html", "problems.csv"
# How the two files begin; another file of the name is not replaced.
MARK = '<meta name="generator" content="trainer train">'
HEAD_BYTES = 2000
# Styles of the page of a report that this page shares.
SHARED_STYLES = ("colours.css", "base.css", "summary.css")

SOURCES = {
    "test": "test samples",
    "validation": "validation samples",
    "cross-validation": "samples, cross-validated",
}
JUDGES = {
    "network": "the network, which was not trained on them",
    "cross-validation": "the networks of the cross-validation, each of which was not trained on "
    "the samples it judges",
    "probe": "a linear classifier on features of a shipped model, cross-validated; the network has "
    "seen the labels of its training samples",
}


def make_training_page(
    run: Path,
    data: Dataset,
    config: Config,
    duration: str = "",
    reason: str = "",
) -> Path:
    """Make ``training.html`` and ``problems.csv`` in a run's folder, each published in one step.

    Args:
        run: the run's folder, with its checkpoint and history.
        data: the data set.
        config: the settings.
        duration: how long the training took, as text; empty if it is not known.
        reason: why framing and settings were chosen, as text; empty if it is not known.

    Returns:
        The path of the page.

    Raises:
        InputError: the checkpoint can't be read.
        OutputError: a file can't be written, or is not one that this function wrote.
    """
    page, listed = run / PAGE_FILE, run / PROBLEMS_FILE
    _check_own(page, MARK)
    _check_own(listed, ",".join(COLUMNS))
    trained, missing = _load(run, config)
    held = answer_held_out(trained, data) if trained else None
    problems = find_problems(data, held)
    history = read_history(run / HISTORY_FILE)
    last = int(history[EPOCH][-1]) if history else 0
    kept = trained.epoch if trained else last
    facts = [
        *content.describe_data(data),
        *_describe_training(data, config, last, kept),
        *[(name, text) for name, text in (("Why", reason), ("Time", duration)) if text],
    ]
    curves = _draw_all_curves(history, kept)
    document = _render(run, data, config, facts, curves, held, missing, problems)
    _publish(listed, format_problems(problems.list_all()))
    _publish(page, document)
    return page


def find_current_page(run: Path) -> Path | None:
    """Find the page of a run; None if it has none, or an older one than its checkpoint.

    Raises:
        OutputError: the file is not one that ``make_training_page`` wrote.
    """
    page = run / PAGE_FILE
    _check_own(page, MARK)
    if not page.exists():
        return None
    is_current = page.stat().st_mtime_ns >= (run / CHECKPOINT_FILE).stat().st_mtime_ns
    return page if is_current else None


def _load(run: Path, config: Config) -> tuple[TrainedNetwork | None, str]:
    """Load the network; return None if nothing can measure it, and why there may be no figures."""
    try:
        return load_trained_network(run), "The data have no held-out sample with an agreed class."
    except InputError as error:
        if config.learn_from != "all":
            raise
        return None, f"The network was trained on all samples. {error.problem}; {error.remedy}."


def _render(
    run: Path,
    data: Dataset,
    config: Config,
    facts: Sequence[tuple[str, str]],
    curves: Sequence[tuple[str, Markup]],
    held: MeasuredAnswers | None,
    missing: str,
    problems: DataProblems,
) -> str:
    metrics = content.measure(held, data.labels) if held else None
    pictured = [one for one in problems.two_labels if one.pixels is not None]
    environment = Environment(autoescape=True, finalize=_make_printable)
    return environment.from_string(_read("trainer.page", "page.html")).render(
        mark=Markup(MARK),
        style=Markup(_join_styles()),
        run=run.resolve().name,
        lead=_describe_lead(data),
        warnings=[data.warning] if data.warning else [],
        facts=facts,
        classes=content.count_classes(data),
        settings=content.list_changed_settings(config),
        curves=curves,
        trained_on_all=config.learn_from == "all",
        metrics=metrics,
        metrics_notes=_list_metrics_notes(held, metrics, missing),
        reliability=Markup(draw_reliability(metrics.reliability)) if metrics else "",
        calibration_note=_describe_calibration(held) if held else "",
        source=SOURCES[held.source] if held else "",
        held_out=len(held.answers) if held else 0,
        mistakes=content.collect_mistakes(held, data.labels) if held else None,
        problems=problems,
        problems_note=f"{PROBLEMS_FILE}, beside this page, lists all problems of single files for "
        "scripts and spreadsheets. Paths are relative to the data.",
        judge_notes=_describe_judges(problems),
        wrong=content.collect_problems(problems.wrong),
        two_labels=content.collect_problems(pictured),
        unpictured=[one for one in problems.two_labels if one.pixels is None],
        skipped=len(data.skipped),
        rare_text=content.join_names(f"{label} {n:,}" for label, n in problems.rare),
        few_text=content.join_names(f"{label} {n:,}" for label, n in problems.few_held_out),
        min_held_out=MIN_SAMPLES,
        max_classes=content.MAX_CLASSES,
        max_rows=content.MAX_ROWS,
    )


def _describe_lead(data: Dataset) -> str:
    samples = len(data.train) + len(data.validation) + len(data.test)
    return f"{samples:,} samples of {content.join_names(data.labels)}"


def _describe_training(
    data: Dataset, config: Config, last: int, kept: int
) -> list[tuple[str, str]]:
    """Describe network and training: ``last`` epoch, and the one whose weights are kept."""
    network = build_network(config, len(data.labels), data.framing.channels)
    facts = [
        ("Network", f"{config.network}, {count_parameters(network):,} parameters"),
        ("Initial weights", config.init or "random"),
        ("Epochs", f"{last:,} of {config.epochs:,}"),
    ]
    if config.probe and not kept:
        facts.append(("Weights kept", "the probe of the initial features, before any epoch"))
    elif config.epochs:
        why = "the last one" if kept == last else "which has the lowest validation loss"
        facts.append(("Weights kept", f"averaged weights of epoch {kept:,}, {why}"))
    return facts


def _draw_all_curves(history: History, kept: int) -> list[tuple[str, Markup]]:
    if len(history.get(EPOCH, ())) < 2:
        return []
    drawn = {
        "Loss": draw_curves(history, "loss", kept),
        "Accuracy": draw_curves(history, "accuracy", kept),
        "Recall of each class, validation": draw_recalls(history, kept),
    }
    return [(caption, Markup(svg)) for caption, svg in drawn.items() if svg]


def _list_metrics_notes(
    held: MeasuredAnswers | None, metrics: content.Metrics | None, missing: str
) -> list[str]:
    if held is None or metrics is None:
        return [missing]
    notes = {
        "test": "These samples were used neither for training nor for any choice. Intervals of "
        "recall and accuracy are 95\u00a0% Wilson intervals.",
        "validation": "There is no test sample, so these are validation samples. If the epoch was "
        "chosen by their loss, the figures are a little too good.",
        "cross-validation": "Each sample was answered by a network that was trained without it. "
        "The kept network was trained on all samples.",
    }
    found = [notes[held.source]]
    if metrics.independent < metrics.accuracy.total:
        found.append(describe_groups(metrics.accuracy.total, metrics.independent))
    if held.uncertain:
        found.append(
            f"{held.uncertain:,} more held-out samples are not counted, because people did not "
            "agree on their class."
        )
    return found


def _describe_calibration(held: MeasuredAnswers) -> str:
    few = "" if len(held.measured) >= 100 else " With so few samples the points scatter by chance."
    meaning = (
        "On the diagonal, answers with 90\u00a0% confidence are right in 90\u00a0% of cases; "
        "larger points have more samples."
    )
    if held.temperature is None:
        how = "Each fold has the temperature that was fitted on the other folds."
    elif held.fitted_on:
        how = (
            f"The logits are divided by the temperature {held.temperature:.2f}, fitted on the "
            f"{held.fitted_on:,} validation samples, as an export of all classes does; the run's "
            "weights themselves have none."
        )
    else:
        how = (
            "The logits are not calibrated: an export would fit a temperature on these samples, "
            "and it can't be measured on them."
        )
    return f"{meaning} {how}{few}"


def _describe_judges(problems: DataProblems) -> list[str]:
    notes = [_describe_judge(judge) for judge in problems.judges]
    if problems.not_judged:
        notes.append(f"Labels of the training samples were not judged: {problems.not_judged}.")
    if not problems.judges:
        notes.append("No labels were judged.")
    return notes


def _describe_judge(judge: Judge) -> str:
    judged = f"{judge.judged:,} {judge.what}"
    agreement = f"It agrees with {100 * judge.accuracy:.0f}\u00a0% of their labels"
    if judge.suspects is None:
        return (
            f"Labels of the {judged} were not judged. The judge would be {JUDGES[judge.name]}. "
            f"{agreement}, which is too seldom."
        )
    return (
        f"{judge.suspects:,} of {judged} are confidently of another class (confident learning, "
        f"Northcutt et al. 2021), judged by {JUDGES[judge.name]}. {agreement}"
        f"{', so some of its suspicions are its own mistakes' if judge.suspects else ''}."
    )


def _make_printable(value: object) -> object:
    """Escape control characters, and texts that are not UTF-8, in what the template prints."""
    return (
        printable_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    )


def _join_styles() -> str:
    shared = [_read("batch.page", name) for name in SHARED_STYLES]
    return "\n".join([*shared, _read("trainer.page", "page.css")])


def _read(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _check_own(path: Path, mark: str) -> None:
    """Check that a file is missing or was written here."""
    try:
        with open_regular(path) as file:  # it does not wait for a pipe
            start = file.read(HEAD_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path} can't be read ({error.strerror})", "move it away") from error
    if mark not in start:
        raise OutputError(f"{path} was not written by `trainer train`", "move it away")


def _publish(path: Path, text: str) -> None:
    remedy = "choose another --run"
    with translate_write_errors(f"file {path}", remedy, path):
        draft = Draft(path, "file", remedy)
    try:
        draft.stream.write(text.encode("utf-8"))
        draft.publish()
    except BaseException:
        draft.discard()
        raise
