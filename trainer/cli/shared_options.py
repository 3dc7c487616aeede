"""Options and helpers shared by several commands."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.cli.options import RealRange
from batch.cli.settings import find_model_search_path, find_user_folder
from batch.errors import UsageError
from batch.log import PROGRAM
from batch.models.shipped import SUFFIX, list_own_models, list_shipped_models
from batch.records import ABSTAIN_OUTPUTS

if TYPE_CHECKING:
    from trainer.datasets.review import Review
    from trainer.training.config import GivenSettings

Command = Callable[..., None]

# The folder that `trainer data` downloads to.
FERPLUS_FOLDER = Path("data/ferplus")
DATA_HELP = (
    "FER+ (folder or zip file), a folder with a sub-folder of photos for each class, such "
    "folders in train/, val/ and test/, or a table (CSV) of photos and labels."
)


def data_option(command: Command) -> Command:
    """Add ``--data``, passed as ``data``."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        default=FERPLUS_FOLDER,
        show_default=True,
        metavar="PATH",
        help=DATA_HELP,
    )(command)


def optional_data_option(default: str) -> Callable[[Command], Command]:
    """Add ``--data``, passed as ``data``, None by default; ``default`` is the text in the help."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help=f"{DATA_HELP}  [default: {default}]",
    )


def beside_option(command: Command) -> Command:
    """Add ``--beside``, passed as ``beside``."""
    return click.option(
        "--beside",
        type=click.Path(path_type=Path),
        metavar="REPORT.csv",
        help="Pseudo-labelled training photos: those of this report with status ok, the same "
        "number for each label.",
    )(command)


def review_options(purpose: str) -> Callable[[Command], Command]:
    """Add ``--review`` and ``--photos``, passed as ``review_files`` and ``photos``."""
    files = click.option(
        "--review",
        "review_files",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="REVIEW.csv",
        help=f"{purpose}; repeatable.",
    )
    photos = click.option(
        "--photos",
        type=click.Path(path_type=Path),
        default=Path(),
        metavar="DIR",
        help="The folder that paths in the reviews start from.  [default: the current folder]",
    )
    return lambda command: files(photos(command))


def make_review(review_files: tuple[Path, ...], photos: Path) -> Review | None:
    """Build a review from the values of ``review_options``; None without ``--review``."""
    from trainer.datasets.review import Review

    return Review(review_files, photos) if review_files else None


def config_option(command: Command) -> Command:
    """Add ``--config``, passed as ``config_file``."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings as TOML; docs/training-settings.md lists them.",
    )(command)


def read_given_settings(config_file: Path | None, options: Mapping[str, Any]) -> GivenSettings:
    """Read the settings of ``--config`` and of options, with models found by name."""
    from trainer.training.config import read_settings

    given = read_settings(config_file, options)
    models = {name: given[name] for name in ("init", "teacher") if given.get(name)}
    return {**given, **{name: resolve_model_name(value) for name, value in models.items()}}


def run_option(default: str, purpose: str) -> Callable[[Command], Command]:
    """Add ``--run``, passed as ``run_folder``."""
    return click.option(
        "--run",
        "run_folder",
        type=click.Path(path_type=Path),
        default=Path(default),
        show_default=True,
        metavar="DIR",
        help=purpose,
    )


def risk_option(default: float) -> Callable[[Command], Command]:
    """Add ``--risk``, passed as ``risk``."""
    return click.option(
        "--risk",
        type=RealRange(0, 1, min_open=True),
        default=default,
        show_default=True,
        metavar="SHARE",
        help="Largest share of wrong labels among those with status ok.",
    )


def split_option(purpose: str) -> Callable[[Command], Command]:
    """Add ``--split``, passed as ``split``."""
    return click.option(
        "--split",
        type=click.Choice(["test", "validation", "all"]),
        default="test",
        show_default=True,
        help=purpose,
    )


def license_option(command: Command) -> Command:
    """Add ``--license``, passed as ``license_id``."""
    return click.option(
        "--license",
        "license_id",
        callback=_check_license,
        metavar="ID",
        help="The model's licence, as an identifier of the Hugging Face hub, such as mit.",
    )(command)


def _check_license(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", value):
        raise UsageError(
            f"--license {value!r} is not an identifier",
            "give one of https://hf.co/docs/hub/repositories-licenses, such as mit",
        )
    return value


def resolve_model(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """Resolve the value of an argument or option, see ``resolve_model_name``."""
    return resolve_model_name(name)


def resolve_model_name(name: str) -> str:
    """Replace the name of one of the user's own models with its path; keep other names."""
    if name in list_shipped_models():
        return name
    return str(list_own_models(find_model_search_path()).get(name, name))


def own_model_path(name: str) -> Path:
    """Return the path for a model of this name in the user's models folder.

    Raises:
        UsageError: the name is that of a shipped model or of a file that is found before, or can't
            be a file's; or the user has no home folder.
    """
    if Path(name).name != name:
        raise UsageError(f"--name {name} is not a file name", "give a name without a folder")
    if name in list_shipped_models():
        raise UsageError(
            f"{name} is the name of a shipped model",
            "choose another --name, or give a file with --output",
        )
    search = find_model_search_path()
    if search.default is None:
        raise UsageError("this user has no home folder for models", "give a file with --output")
    path = search.default / f"{name}{SUFFIX}"
    first = list_own_models(search).get(name, path)
    if first != path:
        raise UsageError(
            f"the name {name} means {first}, in a folder that is searched before {search.default}",
            "choose another --name, or give a file with --output",
        )
    return path


def show_progress() -> None:
    """Send the trainer's log messages to stderr."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("trainer").setLevel(logging.INFO)


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        UsageError: the file can't be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} can't be written ({error.strerror})", "choose another file"
        ) from error


def framing_options(command: Command) -> Command:
    """Add ``--region``, ``--side``, ``--rgb`` and ``--margin``, which ``make_framing`` takes."""
    command = click.option(
        "--margin",
        type=RealRange(0, 10),
        metavar="SHARE",
        help="Margin around faces, as a share of their side, 0 by default; for folders of photos.",
    )(command)
    command = click.option(
        "--rgb", is_flag=True, help="Samples in colour, not grey; for folders of photos."
    )(command)
    command = click.option(
        "--side",
        type=click.IntRange(16, 512),
        metavar="PIXELS",
        help="Side of a sample; for folders of photos.",
    )(command)
    return click.option(
        "--region",
        type=click.Choice(["face", "image"]),
        help="Samples of the largest face or the whole photo; for folders of photos.",
    )(command)


def abstain_option(command: Command) -> Command:
    """Add ``--abstain``, passed as ``abstain``: a map from names in the data to abstain classes."""
    return click.option(
        "--abstain",
        callback=parse_abstain_names,
        metavar="CLASS=NAME,...",
        help="Names in folders or tables of the classes neither and no_person: "
        "neither=others,no_person=empty.",
    )(command)


def parse_abstain_names(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> dict[str, str]:
    """Parse ``class=name,...`` of ``--abstain`` into a map from name to class."""
    pairs = [pair.partition("=") for pair in value.split(",")] if value else []
    names = {name.strip(): class_.strip() for class_, _, name in pairs}
    known = all(class_ in ABSTAIN_OUTPUTS for class_ in names.values())
    if len(set(names.values())) < len(pairs) or "" in names or not known:
        raise UsageError(
            f"--abstain {value!r} does not name each class once",
            f"write CLASS=NAME,... with the classes {' and '.join(ABSTAIN_OUTPUTS)}",
        )
    return names


def find_crop_cache() -> Path | None:
    """Find the folder of the cache of crops; None for a user without a home folder."""
    try:
        home = find_user_folder("XDG_CACHE_HOME", ".cache", "the cache of crops", "")
    except UsageError:
        return None
    return home / PROGRAM / "crops"
