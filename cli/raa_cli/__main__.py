"""The command `raa`: which commands there are. What they do is imported only when one of them is called."""

import json
import sys
from importlib.metadata import version as release
from typing import Annotated

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError

from raa_cli.commands import demo, dlq, doctor, lessons, models, operations, replay, stack, tasks, tools, topics
from raa_cli.telling import tell

USAGE = 2
INTERRUPTED = 130

cli = typer.Typer(
    name="raa",
    help="Reflective Adaptive Agent: tasks that learn from how they went.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for commands in (demo, stack, tasks, lessons, replay, operations, doctor):
    commands.register(cli)


def _show_version(wanted: bool) -> None:  # typer calls it so
    if wanted:
        told = json.dumps({"version": release("raa-cli")}) if "--json" in sys.argv[1:] else f"raa {release('raa-cli')}"
        sys.stdout.write(f"{told}\n")
        raise typer.Exit


def _refuse_alone(wanted: bool) -> None:  # typer calls it so; --version was answered before
    if wanted:
        raise typer.BadParameter("it belongs behind the command, as in `raa dlq ls --json`.")


@cli.callback()
def raa(
    version: Annotated[  # its callback does it
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")
    ] = False,
    as_json: Annotated[  # so does this one's
        bool, typer.Option("--json", callback=_refuse_alone, help="With --version: print JSON.")
    ] = False,
) -> None:
    """Reflective Adaptive Agent: tasks that learn from how they went."""


cli.add_typer(tools.cli, name="tools", help="The tools there are.")
cli.add_typer(models.cli, name="model", help="The models there are.")
cli.add_typer(topics.cli, name="topics", help="The topics of the bus.")
cli.add_typer(dlq.cli, name="dlq", help="The dead letters, and what to do with them.")


def main() -> None:
    """Run the command line; every failure is one line on standard error and an exit code other than 0."""
    try:
        code = cli(standalone_mode=False)
    except NoArgsIsHelpError as problem:
        sys.stderr.write(f"{problem.format_message()}\n")
        code = USAGE
    except UsageError as problem:
        path = problem.ctx.command_path if problem.ctx else "raa"
        code = tell(f"{problem.format_message()} See `{path} --help`.", USAGE, type(problem).__name__, path)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    raise SystemExit(code)


if __name__ == "__main__":
    main()
