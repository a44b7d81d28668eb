"""Commands about models: add, ls, test."""

from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json

cli = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="How tasks call it.")]


@cli.command("add")
def add(
    name: Name,
    url: Annotated[str, typer.Option("--url", help="OpenAI-compatible endpoint, ends in /v1.")],
    model: Annotated[str | None, typer.Option("--model", help="Its name at the endpoint; the same by default.")] = None,
    key_env: Annotated[str | None, typer.Option("--key-env", help="Variable that holds its key now.")] = None,
    tier: Annotated[str, typer.Option("--tier", help="small, medium or large.")] = "medium",
    price: Annotated[str | None, typer.Option("--price", help="USD per million tokens: sent,received.")] = None,
    data: Data = options.DATA,
    as_json: Json = False,
) -> None:
    """Add a model to the data folder, or replace the one of that name; the first one added is the default."""
    from raa_cli import modelbook
    from raa_cli.execute import execute

    execute(
        lambda: modelbook.add(
            data, name, url=url, model=model, key_env=key_env, tier=tier, price=price, as_json=as_json
        )
    )


@cli.command("ls")
def ls(data: Data = options.DATA, bus: Bus = BusName.EMBEDDED, as_json: Json = False) -> None:
    """List the models that tasks can be planned with."""
    from raa_cli import modelbook
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: modelbook.ls(Place(data, bus), as_json=as_json))


@cli.command("test")
def try_one(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model.")] = "default",
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Ask a model one small question, and say what came back and how long it took."""
    from raa_cli import modelbook
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: modelbook.test(Place(data, bus), name, as_json=as_json))
