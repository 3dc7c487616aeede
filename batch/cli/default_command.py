"""A click group with a default command, and the command ``help``."""

from __future__ import annotations

from difflib import get_close_matches

import click

DEFAULT_COMMAND = "label"

# Names of future commands. They are rejected as names of folders, so that no scheduled job changes
# its meaning when such a command is added.
RESERVED_COMMANDS = ("verify",)


class DefaultGroup(click.Group):
    """A group that runs its default command if the command line names none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--version", *ctx.help_option_names}
        if args and args[0] not in self.commands and args[0] not in own:
            if args[0] in RESERVED_COMMANDS:
                raise click.UsageError(
                    f"{args[0]!r} is reserved for a future command; "
                    f"for a folder of this name write ./{args[0]}"
                )
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "PHOTOS... [-o FILE] [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND ...", prefix=" " * len("Usage: "))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the commands, then the options of the default command."""
        self.format_commands(ctx, formatter)
        label = self.commands[DEFAULT_COMMAND]
        label.format_options(click.Context(label, parent=ctx), formatter)


@click.command("help")
@click.argument("name", metavar="[COMMAND]", required=False)
@click.pass_context
def show_help(ctx: click.Context, name: str | None) -> None:
    """Show this page or the help of a command."""
    program = ctx.parent
    assert program is not None
    assert isinstance(program.command, click.Group)
    if name is None:
        click.echo(program.get_help())
        return
    command = program.command.get_command(program, name)
    if command is None:
        near = get_close_matches(name, program.command.commands, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise click.UsageError(f"There is no command {name!r}.{meant}", program)
    click.echo(command.get_help(click.Context(command, info_name=name, parent=program)))
