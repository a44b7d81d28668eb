"""Shows records of any topic, as events if they are some; what they say never acts on a terminal."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from raa_cli.telling import printable
from raa_client.observed import observe
from raa_runtime.bus.port import Record

SHOWN_CHARACTERS: Final = 2_000


@dataclass(frozen=True)
class Wanted:
    """Which records to show: of one tenant, of one task, or all."""

    deployment: str
    tenant: str | None = None
    task: str | None = None

    def shown(self, record: Record) -> dict[str, Any] | None:
        """Give a record as a JSON object: the event it is, or its bytes as text; None when it is not wanted."""
        if observed := observe(record, self.deployment, tenant=self.tenant, task_id=self.task):
            return observed.to_json() | {"key": _text(record.key)}
        if observe(record, self.deployment) is not None or not self._may_be(record):
            return None
        return {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "time": record.timestamp.isoformat(),
            "key": _text(record.key),
            "value": _text(record.value),
            "headers": {name: _text(value) for name, value in record.headers},
        }

    def _may_be(self, record: Record) -> bool:
        """Say whether a record that is no event, such as a dead letter, is about what is wanted, by its headers."""
        said = {name: _text(value) for name, value in record.headers}
        return self.task in {None, said.get("ce_subject")} and self.tenant in {None, said.get("ce_tenant")}


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def lines_of(shown: dict[str, Any]) -> Iterator[str]:
    """Write a record for people: where it lies and what it says of itself, then what it carries."""
    place = f"{shown['time']}  {shown['topic']}/{shown['partition']}@{shown['offset']}"
    if "data" not in shown:
        headers = "".join(f"\n    {name}: {value}" for name, value in shown["headers"].items())
        yield from _printable_lines(f"{place}  no event  key={shown['key']}{headers}")
        yield f"    {_short(shown['value'] or '')}"
        return
    step = f"  step={shown['step']}" if shown["step"] else ""
    yield printable(f"{place}  {shown['tenant']}/{shown['task_id']}{step}  id={shown['id']}  from={shown['source']}")
    yield f"    {_short(json.dumps(shown['data'], ensure_ascii=False))}"


def _printable_lines(text: str) -> Iterator[str]:
    return (printable(line) for line in text.split("\n"))


def _short(text: str) -> str:
    """Cut a long value; --json prints all of it."""
    shown = printable(text[:SHOWN_CHARACTERS])
    return shown if len(text) <= SHOWN_CHARACTERS else f"{shown}… ({len(text)} characters; --json prints all)"
