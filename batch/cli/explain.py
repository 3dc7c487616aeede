"""The command ``explain``: draw which parts of a photo its answer depends on."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import click

from batch.cli.options import FILE, answer_options, device_options, file_options
from batch.cli.settings import (
    build_device,
    build_file_limits,
    exit_with_error,
    parse_model_names,
    warn_of_hidden_models,
)
from batch.errors import BatchLabelError, UsageError
from batch.log import escape_line
from batch.options import Options

PICTURE_SUFFIX = ".png"


@click.command("explain")
@click.argument("photo", metavar="PHOTO")
@click.option(
    "-o", "--output", required=True, type=FILE, metavar="FILE.png", help="The picture to write."
)
@device_options
@answer_options
@file_options
def explain(
    photo: str,
    output: Path,
    model: str,
    provider: str,
    devices: tuple[int, ...],
    engine_cache: Path | None,
    min_confidence: float | None,
    always_answer: bool,
    **file_limits: str,
) -> None:
    """Draw which parts of a photo its answer depends on.

    Labels PHOTO as a run does and draws it with its faces, its answer, the probabilities, and a
    map of the spots that make the answer more likely (red) or less likely (blue).
    """
    try:
        warn_of_hidden_models(model)
        device = build_device(provider, devices, engine_cache)
        options = Options(
            model=parse_model_names(model),
            provider=device.provider,
            devices=device.devices,
            engine_cache=device.engine_cache,
            min_confidence=min_confidence,
            always_answer=always_answer,
            file_limits=build_file_limits(**file_limits),
        )
        lines = _draw(photo, output, options)
    except BatchLabelError as error:
        exit_with_error(error)
    for line in lines:
        # Paths and labels may contain control characters.
        click.echo(escape_line(line), err=True)


def _draw(photo: str, output: Path, options: Options) -> list[str]:
    """Write the picture and return its content as lines of text."""
    from PIL.PngImagePlugin import PngInfo

    from batch.explaining.explainer import explain as explain_photo
    from batch.explaining.explanation import describe_map, subtitle_text, title_text
    from batch.files.lock import hold_lock
    from batch.files.publish import DRAWN_BY
    from batch.location import parse_location
    from batch.path_text import path_text
    from batch.reports.output import check_not_input
    from batch.reports.whole_file import AtomicFile

    if output.suffix.lower() != PICTURE_SUFFIX:
        raise UsageError(
            f"picture {path_text(output)} is not a {PICTURE_SUFFIX} file",
            f"end its name in {PICTURE_SUFFIX}",
        )
    file = AtomicFile(output, "picture", "choose another path with -o")
    check_not_input(str(output), "the photo itself", photo, kind="picture")
    file.check()
    with hold_lock(str(output)):
        explanation = explain_photo(photo, options)
        png, info = BytesIO(), PngInfo()
        info.add_text(*DRAWN_BY)  # only pictures with this mark are replaced, never a photo
        explanation.picture().save(png, "PNG", optimize=True, pnginfo=info)
        file.write(png.getvalue())
    return [
        f"{path_text(parse_location(photo))}: {title_text(explanation)}",
        subtitle_text(explanation),
        *describe_map(explanation),
    ]
