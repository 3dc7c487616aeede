"""Entry point of the command line: the group of commands, and error handling."""

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
from trainer.cli.import_model import import_model
from trainer.cli.publish import publish
from trainer.cli.render import render
from trainer.cli.train import train

PROGRAM = "trainer"
# The extras of the trainer, by module.
EXTRAS = {
    **dict.fromkeys(
        ("jinja2", "matplotlib", "onnxscript", "scipy", "tensorboard", "torch", "tqdm", "yaml"),
        "train",
    ),
    **dict.fromkeys(("mlflow", "sqlalchemy", "alembic"), "mlflow"),
    "wandb": "wandb",
}


class MissingExtra(BatchLabelError):
    """A module of an extra is not installed."""


class TrainerGroup(click.Group):
    """Command group that turns expected errors into one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            module = (error.name or "").split(".")[0]
            if module not in EXTRAS:
                raise
            remedy = f"run `pip install 'batch-label[{EXTRAS[module]}]'`"
            return _exit_with_error(MissingExtra(f"{module} is not installed", remedy))
        except BatchLabelError as error:
            return _exit_with_error(error)


@click.group(
    PROGRAM,
    cls=TrainerGroup,
    commands=[
        data,
        render,
        train,
        crossvalidate,
        fuse,
        evaluate,
        export,
        import_model,
        adjust,
        gate,
        publish,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """Train, evaluate and export the models that batch-label runs."""


def main() -> None:
    """Run the command line and exit."""
    cli.main(prog_name=PROGRAM)


def _exit_with_error(error: BatchLabelError) -> None:
    click.echo(f"{PROGRAM}: {error}", err=True)
    sys.exit(error.exit_code)
