"""Keeps the models of a data folder, lists them and tries one."""

import json
import os
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from raa_cli.execute import UsageProblem
from raa_cli.output import print_json, print_rows
from raa_cli.session import MODELS_FILE, Place, owner, service_url
from raa_cli.web import ask
from raa_router.domain.catalogue import ModelSpec

TEST_SECONDS = 180.0
_MICROUSD = 1_000_000
_QUESTION = 'Answer with this JSON object and nothing else: {"ok": true}'


async def add(
    data: Path,
    name: str,
    *,
    url: str,
    model: str | None,
    key_env: str | None,
    tier: str,
    price: str | None,
    as_json: bool,
) -> None:
    """Write a model into the data folder's file, which only this user can read, because keys are in it."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise UsageProblem(f"--url {url!r} is no address; write for example http://127.0.0.1:8000/v1")
    entry = {
        "name": name,
        "model": model,
        "base_url": url,
        "api_key": _key(key_env),
        "tier": tier,
        "price": _price(price),
    }
    given = {key: value for key, value in entry.items() if value is not None}
    try:
        ModelSpec.model_validate(given)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        raise UsageProblem(f"--{first['loc'][0]}: {first['msg']}") from None
    file = data / MODELS_FILE
    others = [known for known in _read(file) if known.get("name") != name]
    _write(file, [*others, given])
    restart = await owner(data) is not None
    if as_json:
        print_json({"name": name, "file": str(file), "restart_needed": restart})
    else:
        print(
            f"{name} is in {file}; " + ("restart `raa up`, then " if restart else "") + f"try it with "
            f"`raa model test {name} --data {data}`, use it with `raa run … --model {name}`"
        )


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise UsageProblem(f"--key-env: the variable {variable} is not set; export the key in it first")
    return key


def _price(text: str | None) -> dict[str, int] | None:
    if text is None:
        return None
    try:
        sent, received = (int(Decimal(part) * _MICROUSD) for part in text.split(","))
    except (ValueError, InvalidOperation):
        raise UsageProblem(f"--price {text!r} is no pair of amounts; write for example 0.15,0.60") from None
    return {"input_microusd": sent, "output_microusd": received}


def _read(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    try:
        models: list[dict[str, Any]] = json.loads(file.read_text())
    except ValueError as problem:
        raise UsageProblem(f"{file} is no JSON ({problem}); mend it or move it away") from None
    return models


def _write(file: Path, models: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(models, out, indent=2)
    fresh.replace(file)


async def ls(place: Place, *, as_json: bool) -> None:
    """List what the router knows: one object per line, or a table."""
    async with service_url(place, "router") as url:
        models = (await ask(url, "/v1/models"))["data"]
    known = [{"name": model["id"], **model["raa"]} for model in models]
    if as_json:
        for model in known:
            print_json(model)
        return
    print_rows(
        [
            [
                model["name"],
                "yes" if model["default"] else "",
                model["tier"],
                model["protocol"],
                model["base_url"] or "",
            ]
            for model in known
        ],
        ["model", "default", "tier", "protocol", "endpoint"],
    )


async def test(place: Place, name: str, *, as_json: bool) -> None:
    """Ask one question; a model that does not answer is a failure that says why."""
    question = {"model": name, "max_tokens": 200, "messages": [{"role": "user", "content": _QUESTION}]}
    async with service_url(place, "router") as url:
        begun = time.monotonic()
        answer = await ask(url, "/v1/chat/completions", body=question, seconds=TEST_SECONDS)
        milliseconds = round((time.monotonic() - begun) * 1000)
    said = answer["choices"][0]["message"].get("content") or ""
    usage = answer.get("usage") or {}
    if as_json:
        print_json(
            {
                "model": name,
                "answered_by": answer.get("model"),
                "answer": said,
                "milliseconds": milliseconds,
                "usage": usage,
            }
        )
    else:
        print(f"{answer.get('model', name)} answered in {milliseconds} ms: {said[:200]}")
