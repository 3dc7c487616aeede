"""The command line of the trainer: its commands, and how errors end them."""

from __future__ import annotations

import sys
from typing import Any

import click

from batch.errors import BatchLabelError
from trainer.cli.adjust import adjust
from trainer.cli.crossvalidate import crossvalidate
from trainer.cli.data import data
from trainer.cli.evaluate import evaluate
from trainer.cli.export import export
from trainer.cli.fuse import fuse
from trainer.cli.gate import gate
from trainer.cli.render import render
from trainer.cli.train import train

PROGRAM = "trainer"
# Modules of the extra `train`, and what to do where one of them is missing.
TRAIN_MODULES = ("matplotlib", "onnxscript", "tensorboard", "torch", "tqdm")
EXTRA_REMEDY = "run `pip install 'batch-label[train]'`"


class MissingExtra(BatchLabelError):
    """A module that only training needs is not installed."""


class TrainerGroup(click.Group):
    """Commands whose expected errors are one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            module = (error.name or "").split(".")[0]
            if module not in TRAIN_MODULES:
                raise
            return _exit_with_error(MissingExtra(f"{module} is not installed", EXTRA_REMEDY))
        except BatchLabelError as error:
            return _exit_with_error(error)


@click.group(
    PROGRAM,
    cls=TrainerGroup,
    commands=[data, render, train, crossvalidate, fuse, evaluate, export, adjust, gate],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """Fit, evaluate and export the networks that batch-label runs."""


def main() -> None:
    """Run the program and end the process with the exit code of what happened."""
    cli.main(prog_name=PROGRAM)


def _exit_with_error(error: BatchLabelError) -> None:
    click.echo(f"{PROGRAM}: {error}", err=True)
    sys.exit(error.exit_code)
