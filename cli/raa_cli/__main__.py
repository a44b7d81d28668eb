"""The command `raa`: which commands there are. What they do is imported only when one of them is called."""

import sys

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError

from raa_cli.commands import demo, dlq, doctor, lessons, models, operations, replay, stack, tasks, tools, topics

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
        sys.stderr.write(f"{path}: {problem.format_message()} See `{path} --help`.\n")
        code = USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    raise SystemExit(code)


if __name__ == "__main__":
    main()
