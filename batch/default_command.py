"""A command line whose main command needs no name."""

from __future__ import annotations

import click

DEFAULT_COMMAND = "label"
# Names that later commands will take: refused as folder names from the start, so that no
# scheduled job changes its meaning on the day one of them arrives.
RESERVED = ("verify",)


class DefaultGroup(click.Group):
    """A group that runs its default command where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "--version"}
        if args and args[0] not in self.commands and args[0] not in own:
            if args[0] in RESERVED:
                raise click.UsageError(
                    f"{args[0]!r} is kept for a command to come; "
                    f"for a folder of that name write ./{args[0]}"
                )
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "PHOTOS... [-o FILE] [OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the default command's options as if they were the program's own."""
        label = self.commands[DEFAULT_COMMAND]
        label.format_options(click.Context(label, parent=ctx), formatter)
