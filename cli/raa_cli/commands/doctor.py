"""The command that looks for what is missing: doctor."""

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(doctor)


def doctor(data: Data = options.DATA, bus: Bus = BusName.EMBEDDED, as_json: Json = False) -> None:
    """Say what is configured, what answers, what is missing, and the command that mends it. Exits 1 if anything is."""
    from raa_cli import doctor
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: doctor.doctor(Place(data, bus), as_json=as_json))
