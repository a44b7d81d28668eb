"""Built-in tool `calculate`: evaluates arithmetic by a grammar of its own; there is no `eval` behind it.

sum     = product {("+" | "-") product}
product = signed {("*" | "/" | "%") signed}
signed  = ("+" | "-") signed | power
power   = atom ["**" signed]
atom    = number | name | function "(" sum {"," sum} ")" | "(" sum ")"
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from raa_executor.tools.declare import tool
from raa_executor.tools.errors import ToolError

Number = int | float

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([^\W\d]\w*)|(\*\*|[-+*/%(),]))")
_MAX_DEPTH = 50
_MAX_DIGITS = 300
_BINARY: dict[str, Callable[[Any, Any], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}
_ONE_OR_MORE = (1, 64)
_FUNCTIONS: dict[str, tuple[Callable[..., Number], tuple[int, int]]] = {
    "abs": (abs, (1, 1)),
    "min": (lambda *numbers: min(numbers), _ONE_OR_MORE),
    "max": (lambda *numbers: max(numbers), _ONE_OR_MORE),
    "round": (lambda number, digits=0: _round(number, digits), (1, 2)),
    "sqrt": (math.sqrt, (1, 1)),
}


@tool(name="calculate", effect="read", risk="read", timeout=5)
async def calculate(
    expression: Annotated[str, Field(max_length=500, description="+ - * / % ** ( ) abs min max round sqrt and names")],
    values: Annotated[dict[str, int | float | None], Field(description="the numbers behind the names")] = {},  # noqa: B006
) -> dict[str, Any]:
    """Compute an arithmetic expression over named numbers."""
    return {"value": evaluate(expression, values)}


def evaluate(expression: str, values: Mapping[str, Number | None]) -> Number:
    """Return the value of `expression`, always finite.

    Raises:
        ToolError: `bad_expression`, with the position in `details`.
    """
    return _Parser(expression, values).result()


class _Parser:
    """Recursive descent over the tokens, computing as it reads."""

    def __init__(self, expression: str, values: Mapping[str, Number | None]) -> None:
        self._expression = expression
        self._values = values
        self._tokens = self._split()
        self._place = 0
        self._depth = 0

    def result(self) -> Number:
        value = self._sum()
        if self._token():
            raise self._wrong(f"unexpected '{self._token()}'")
        return value

    def _split(self) -> list[tuple[str, int]]:
        tokens: list[tuple[str, int]] = []
        place, end = 0, len(self._expression.rstrip())
        while place < end:
            match = _TOKEN.match(self._expression, place)
            if match is None:
                start = place + len(self._expression[place:]) - len(self._expression[place:].lstrip())
                raise self._wrong(f"unexpected '{self._expression[start]}'", start)
            tokens.append((match[0].strip(), match.end() - len(match[0].strip())))
            place = match.end()
        return [*tokens, ("", end)]

    def _token(self) -> str:
        return self._tokens[self._place][0]

    def _take(self, *wanted: str) -> str:
        """Consume the next token if it is one of `wanted`; return it, or an empty string."""
        token = self._token()
        if not token or token not in wanted:
            return ""
        self._place += 1
        return token

    def _sum(self) -> Number:
        value = self._product()
        while sign := self._take("+", "-"):
            value = self._compute(_BINARY[sign], value, self._product())
        return value

    def _product(self) -> Number:
        value = self._signed()
        while sign := self._take("*", "/", "%"):
            value = self._compute(_BINARY[sign], value, self._signed())
        return value

    def _signed(self) -> Number:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong(f"nested deeper than {_MAX_DEPTH}")
        sign = self._take("+", "-")
        value = self._signed() if sign else self._power()
        self._depth -= 1
        return -value if sign == "-" else value

    def _power(self) -> Number:
        base = self._atom()
        return self._compute(_power, base, self._signed()) if self._take("**") else base

    def _atom(self) -> Number:
        token, place = self._tokens[self._place]
        self._place += bool(token)
        if token == "(":  # noqa: S105
            value = self._sum()
            self._close()
            return value
        if token and (token[0].isdecimal() or token[0] == "."):
            return self._compute(float if re.search(r"[.eE]", token) else int, token)
        if token in _FUNCTIONS and token not in self._values:
            return self._function(token)
        if token in self._values:
            return self._named(token, place)
        problem = f"unknown name '{token}'" if token.isidentifier() else f"unexpected {repr(token) if token else 'end'}"
        raise self._wrong(problem, place)

    def _named(self, name: str, place: int) -> Number:
        value = self._values[name]
        if value is None:
            raise self._wrong(f"'{name}' has no value (it is null)", place)
        return self._compute(lambda: value)

    def _function(self, name: str) -> Number:
        function, (fewest, most) = _FUNCTIONS[name]
        if not self._take("("):
            raise self._wrong(f"'{name}' needs its arguments in parentheses")
        numbers = [self._sum()]
        while self._take(","):
            numbers.append(self._sum())
        self._close()
        if not fewest <= len(numbers) <= most:
            raise self._wrong(f"'{name}' does not take {len(numbers)} arguments")
        return self._compute(function, *numbers)

    def _close(self) -> None:
        if not self._take(")"):
            raise self._wrong("a closing parenthesis is missing")

    def _compute(self, function: Callable[..., Number], *operands: Any) -> Number:
        try:
            value = function(*operands)
        except ZeroDivisionError:
            raise self._wrong("division by zero") from None
        except (ArithmeticError, ValueError, TypeError) as impossible:
            raise self._wrong(str(impossible)) from None
        if isinstance(value, complex) or not (isinstance(value, int) or math.isfinite(value)):
            raise self._wrong("the value is not a finite real number")
        if isinstance(value, int) and abs(value) >= 10**_MAX_DIGITS:
            raise self._wrong(f"the value has more than {_MAX_DIGITS} digits")
        return value

    def _wrong(self, problem: str, place: int | None = None) -> ToolError:
        at = self._tokens[self._place][1] if place is None else place
        message = f"{problem}, at character {at + 1} of '{self._expression}'; correct the expression or its values"
        return ToolError("bad_expression", message, {"expression": self._expression, "position": at})


def _power(base: Number, exponent: Number) -> Number:
    """Refuse results of absurd size before computing them."""
    whole = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1
    if whole and exponent * math.log10(abs(base)) > _MAX_DIGITS:
        raise OverflowError(f"the value has more than {_MAX_DIGITS} digits")
    result: Number = base**exponent
    return result


def _round(number: Number, digits: Number) -> Number:
    if not isinstance(digits, int) or not -15 <= digits <= 15:
        raise ValueError("round takes a whole number of digits between -15 and 15")
    return round(number, digits) if digits else round(number)
