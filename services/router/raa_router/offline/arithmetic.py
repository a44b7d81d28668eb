"""Recognises goals that are plain arithmetic, and writes them in the expression language of the tool `calculate`."""

import re
from collections.abc import Sequence

_LEAD = re.compile(
    r"(?:(?:please|can you|could you|tell me|give me|i need|what'?s|what is|what does|how much is|how much are|"
    r"what are|calculate|compute|evaluate|solve|work out|find|determine|the (?:value|result|answer) of)\b[\s:,]*)+",
    re.IGNORECASE,
)
_TAIL = re.compile(r"[\s?!.=]*(?:\b(?:equal|equals|make|makes)\b)?[\s?!.=]*$", re.IGNORECASE)
_OUTPUT = re.compile(
    r"[\s,;.]*(?:and\s+)?(?:then\s+)?(?:write|save|store|put|output)\s+(?:(?:it|that|the\s+(?:result|answer|value))\s+)?"
    r"(?:to|into|in|as)?\s*[`\"']?(?P<path>[\w][\w\-/]*\.[A-Za-z]\w{0,7})[`\"']?[\s.!]*$",
    re.IGNORECASE,
)
_WORDS: tuple[tuple[str, str], ...] = (
    (r"(?:the\s+)?square\s+root\s+of", " sqrt "), (r"raised\s+to\s+(?:the\s+power\s+of\s+)?", " ** "),
    (r"to\s+the\s+power\s+of", " ** "), (r"multiplied\s+by", " * "), (r"divided\s+by", " / "), (r"squared", " ** 2 "),
    (r"cubed", " ** 3 "), (r"plus", " + "), (r"minus", " - "), (r"times", " * "), (r"modulo|mod", " % "),
    (r"over", " / "),
)  # fmt: skip
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})  # noqa: RUF001
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+|[A-Za-z]+|\*\*|[-+*/%(),])")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|percent)\s+of\b", re.IGNORECASE)
_FUNCTIONS = frozenset({"abs", "min", "max", "round", "sqrt"})
_LIST = re.compile(
    r"(?:the\s+)?(?P<name>mean|average|sum|total|min|minimum|smallest|max|maximum|largest|product)\s+of\s+"
    r"(?P<numbers>-?\d+(?:\.\d+)?(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+)-?\d+(?:\.\d+)?)+)",
    re.IGNORECASE,
)
_MAX_EXPRESSION = 500


def split_output(goal: str) -> tuple[str, str | None]:
    """Split `… and write it to FILE` off a goal; the second part is the file, if there is one."""
    found = _OUTPUT.search(goal)
    return (goal[: found.start()], found["path"]) if found else (goal, None)


def expression_of(goal: str) -> str | None:
    """Return the expression that the goal asks for, or None when it is not arithmetic alone."""
    text = _TAIL.sub("", _LEAD.sub("", goal.strip(), count=1)).strip()
    listed = _LIST.fullmatch(text)
    written = _of_list(listed["name"], re.findall(r"-?\d+(?:\.\d+)?", listed["numbers"])) if listed else _written(text)
    tokens = _split(written) if len(written) <= _MAX_EXPRESSION else []
    return _joined(tokens) if tokens and _Grammar(tokens).holds() else None


def _joined(tokens: Sequence[str]) -> str:
    text = " ".join(tokens).replace("( ", "(").replace(" )", ")").replace(" ,", ",")
    text = re.sub(r"\b([a-z]+) \(", r"\1(", text)
    return re.sub(r"(^|[(])- ", r"\1-", text)


def _of_list(name: str, numbers: Sequence[str]) -> str:
    name = name.casefold()
    signed = [number if not number.startswith("-") else f"({number})" for number in numbers]
    if name in {"min", "minimum", "smallest"}:
        return f"min({', '.join(signed)})"
    if name in {"max", "maximum", "largest"}:
        return f"max({', '.join(signed)})"
    if name == "product":
        return " * ".join(signed)
    total = " + ".join(signed)
    return f"({total}) / {len(signed)}" if name in {"mean", "average"} else total


def _written(text: str) -> str:
    text = _PERCENT.sub(r"(\1 / 100) * ", text.translate(_SIGNS))
    for words, sign in _WORDS:
        text = re.sub(rf"\b(?:{words})\b", sign, text, flags=re.IGNORECASE)
    text = re.sub(r"sqrt\s+(\d+(?:\.\d+)?)", r"sqrt(\1)", text).replace("^", "**")
    return re.sub(r"(?<=[\d)])\s*[x]\s*(?=[\d(])", " * ", text)


def _split(text: str) -> list[str]:
    tokens: list[str] = []
    place, end = 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            return []
        tokens.append(match[1])
        place = match.end()
    return tokens


class _Grammar:
    """Checks tokens against the grammar of `calculate`, and that they compute something."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0
        self._depth = 0
        self._computes = any(token in {"+", "-", "*", "/", "%", "**"} or token in _FUNCTIONS for token in tokens)

    def holds(self) -> bool:
        """Say whether all tokens form one expression."""
        return self._computes and self._sum() and not self._tokens[self._at]

    def _take(self, *wanted: str) -> bool:
        taken = bool(self._tokens[self._at]) and self._tokens[self._at] in wanted
        self._at += taken
        return taken

    def _sum(self) -> bool:
        self._depth += 1
        holds = self._depth <= 40 and self._operand()
        while holds and self._take("+", "-", "*", "/", "%", "**"):
            holds = self._operand()
        self._depth -= 1
        return holds

    def _operand(self) -> bool:
        while self._take("+", "-"):
            pass
        token = self._tokens[self._at]
        if self._take("("):
            return self._sum() and self._take(")")
        if token in _FUNCTIONS:
            self._at += 1
            return self._take("(") and self._arguments()
        self._at += bool(token)
        return token[:1].isdecimal() or token[:1] == "."

    def _arguments(self) -> bool:
        while True:
            if not self._sum():
                return False
            if not self._take(","):
                return self._take(")")
