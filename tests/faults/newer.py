"""Starts a program of ours as its next release would be: each state has one field more, or a new major version besides.

    python newer.py MODULE [ARGUMENT…]

RAA_TEST_NEWER says which: `field` or `major`. Everything else is as `failpoints.py` starts it.
"""

import os
import sys
from typing import Any, Generic

import failpoints  # type: ignore[import-not-found] # beside this file, which is started by its path

FIELD = "since_next_release"


def renew(*, major: bool) -> None:
    """Let every kind of aggregate that is defined from here on be that of the next release."""
    from pydantic import create_model

    from raa_runtime.state import codec
    from raa_runtime.state.aggregate import S

    version = {"schema": 2 if major else 1}

    class Newer(codec.Kind[S], Generic[S]):
        __slots__ = ()

        def __init__(self, name: str, state: type[Any], *rest: Any, **named: Any) -> None:
            fields: Any = {FIELD: (str, "yes")}
            super().__init__(name, create_model(state.__name__, __base__=state, **fields), *rest, **(named | version))

    vars(codec)["Kind"] = Newer


if __name__ == "__main__":
    renew(major=os.environ["RAA_TEST_NEWER"] == "major")
    failpoints.main(sys.argv[1], sys.argv[2:])
