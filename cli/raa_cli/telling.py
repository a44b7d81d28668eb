"""Tells why a command failed in one line of standard error; needs nothing that is slow to import."""

import json
import re
import sys
from typing import Final

# controls, the marks that turn the direction of writing, separators of lines, halves of characters
ACTED_UPON: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Escape what a terminal would act upon, or would show in another order; it may come from anybody."""
    return ACTED_UPON.sub(_escaped, text)


def printable_text(text: str) -> str:
    """Escape what a terminal would act upon in text of several lines; its lines and tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def tell(message: str, code: int, kind: str, name: str = "raa") -> int:
    """Write the line, as JSON where --json asks for it; returns the exit code."""
    line = printable(" ".join(message.split()))
    if "--json" in sys.argv[1:]:
        problem = {"message": line, "kind": kind, "exit_code": code}
        sys.stderr.write(f"{json.dumps({'error': problem}, ensure_ascii=False)}\n")
    else:
        sys.stderr.write(f"{name}: {line}\n")
    return code
