"""Commands about tools: ls, run."""

from pathlib import Path
from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json, Tools

cli = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@cli.command("ls")
def ls(tools: Tools = None, data: Data = options.DATA, bus: Bus = BusName.EMBEDDED, as_json: Json = False) -> None:
    """List the tools: those of the stack that runs, else the shipped ones and those of --tools."""
    from raa_cli import toolbox
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: toolbox.ls(Place(data, bus), tools or (), as_json=as_json))


@cli.command("run")
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tool.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="K=V…", help="Arguments; values are JSON or text.")
    ] = None,
    args: Annotated[str | None, typer.Option("--args", help="All arguments as one JSON object.")] = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", help="File it may read; repeatable.")] = None,
    tools: Tools = None,
    save: Annotated[Path | None, typer.Option("--save", help="Folder for the files it writes.")] = None,
    data: Data = options.DATA,
    as_json: Json = False,
) -> None:
    """Call one tool alone, here and now, without a stack, a plan or an approval."""
    from raa_cli import toolbox
    from raa_cli.execute import execute

    execute(
        lambda: toolbox.run(
            name, arguments or (), args, inputs=inputs or (), tools=tools or (), save=save, data=data, as_json=as_json
        )
    )
