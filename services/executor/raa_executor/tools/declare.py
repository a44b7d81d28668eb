"""Turns a typed function into a tool: its declaration, and the schema of its arguments from the type hints."""

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model
from pydantic_core import to_json

from raa_executor.tools.context import CallContext
from raa_executor.tools.errors import ToolDeclarationError, ToolError
from raa_executor.tools.workspace import Workspace
from raa_schemas.canonical import digest
from raa_schemas.step import Effect, Risk
from raa_schemas.tool import ToolSpec

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TIMEOUT_SECONDS = 60.0
_INJECTED = (Workspace, CallContext)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_CLOSED = ConfigDict(extra="forbid", strict=True)  # strict: the JSON schema and the check at the call agree


@dataclass(frozen=True)
class Tool(Generic[P, R]):
    """A declared tool; calling it calls the function, so that tests of a tool need nothing else.

    `injected` maps parameters to `Workspace` or `CallContext`; `arguments` validates all others.
    """

    spec: ToolSpec
    function: Callable[P, R]
    arguments: type[BaseModel]
    injected: Mapping[str, type]
    probe: Callable[..., Any] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def bind(self, args: Mapping[str, Any], workspace: Workspace, context: CallContext) -> dict[str, Any]:
        """Return the keyword arguments of a call, validated.

        Raises:
            ToolError: `bad_arguments`, with one entry of `details.errors` per field.
        """
        try:
            model = self.arguments.model_validate_json(to_json(dict(args)))
        except ValidationError as invalid:
            raise _bad_arguments(self.spec.name, invalid) from None
        bound = {field: getattr(model, field) for field in type(model).model_fields}
        there = {Workspace: workspace, CallContext: context}
        return bound | {parameter: there[kind] for parameter, kind in self.injected.items()}


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    function: None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect = "once",
    risk: Risk = "external",
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    probe: Callable[..., Any] | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect = "once",
    risk: Risk = "external",
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    probe: Callable[..., Any] | None = None,
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Declare a typed function, plain or async, as a tool; `timeout` is in seconds.

    What is not declared is taken to be the most dangerous: `once` is never repeated after a crash, `external` waits
    for an approval. A `checkable` tool needs `probe`, a function of the same parameters that returns `Happened(output)`
    when the action was done and None when it was not. The first line of the docstring becomes the description.

    Raises:
        ToolDeclarationError: the function cannot be a tool, for example a parameter has no type.
    """

    def declare(declared: Callable[P, R]) -> Tool[P, R]:
        return _declare(declared, name or declared.__name__, effect, risk, timeout, probe)

    return declare if function is None else declare(function)


def _declare(
    function: Callable[P, R],
    name: str,
    effect: Effect,
    risk: Risk,
    timeout: float,
    probe: Callable[..., Any] | None,
) -> Tool[P, R]:
    _check_declaration(name, effect, risk, timeout, probe)
    injected, fields = _parameters(function, name)
    try:
        arguments = create_model(name, __config__=_CLOSED, **fields)
        schema = arguments.model_json_schema()
    except PydanticUserError as unsuitable:
        raise ToolDeclarationError(f"tool {name}: {unsuitable.message}; use types that JSON can carry") from unsuitable
    spec = ToolSpec(
        name=name,
        description=(inspect.getdoc(function) or "").partition("\n")[0],
        arguments=schema,
        effect=effect,
        risk=risk,
        timeout_seconds=timeout,
        schema_hash=digest({"name": name, "arguments": schema, "effect": effect, "risk": risk}),
    )
    return Tool(spec, function, arguments, injected, probe)


def _check_declaration(name: str, effect: str, risk: str, timeout: float, probe: Callable[..., Any] | None) -> None:
    if not _NAME.fullmatch(name):
        raise ToolDeclarationError(
            f"tool {name!r}: a name is letters, digits and _, with dots between, as in 'crm.add'"
        )
    if effect not in typing.get_args(Effect):
        raise ToolDeclarationError(f"tool {name}: effect={effect!r}; use one of {', '.join(typing.get_args(Effect))}")
    if risk not in typing.get_args(Risk):
        raise ToolDeclarationError(f"tool {name}: risk={risk!r}; use one of {', '.join(typing.get_args(Risk))}")
    if timeout <= 0:
        raise ToolDeclarationError(f"tool {name}: timeout={timeout}; use a number of seconds above 0")
    if (effect == "checkable") != (probe is not None):
        raise ToolDeclarationError(f"tool {name}: effect='checkable' and probe=… belong together; give both or neither")


def _parameters(function: Callable[..., Any], name: str) -> tuple[dict[str, type], dict[str, Any]]:
    """Split the parameters into injected ones and fields of the arguments."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as unknown:
        raise ToolDeclarationError(f"tool {name}: a type hint names an unknown type: {unknown}") from unknown
    injected: dict[str, type] = {}
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = _hint_of(parameter, hints, name)
        if hint in _INJECTED:
            injected[parameter.name] = hint
        else:
            fields[parameter.name] = (hint, ... if parameter.default is parameter.empty else parameter.default)
    return injected, fields


def _hint_of(parameter: inspect.Parameter, hints: Mapping[str, Any], name: str) -> Any:
    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        raise ToolDeclarationError(f"tool {name}: {parameter} cannot be called by name; declare each argument")
    if parameter.name.startswith("_") or parameter.name not in hints:
        raise ToolDeclarationError(f"tool {name}: give the parameter '{parameter.name}' a type and a name without _")
    return hints[parameter.name]


def _bad_arguments(name: str, invalid: ValidationError) -> ToolError:
    errors = [
        {"at": "/" + "/".join(str(part) for part in one["loc"]), "message": one["msg"]}
        for one in invalid.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ToolError("bad_arguments", f"{name}: {first['at']}: {first['message']}{more}", {"errors": errors})
