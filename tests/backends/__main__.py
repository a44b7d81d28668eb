"""Run one backend by hand, or fill the cache that all of them start from.

    python -m tests.backends fill             fetch and build what Maven and Go bring (once per user, about 40 s)
    python -m tests.backends kafka            run one in the foreground; Ctrl-C stops it
    python -m tests.backends mongo DIR        keep its data in DIR instead of a folder that goes with it

There are kafka, mongo, redis, s3 and toxiproxy.

The address it prints is what RAA_TEST_KAFKA, RAA_TEST_MONGO, RAA_TEST_REDIS and so on hands to the tests, which
then use the running server instead of starting their own.
"""

import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.backends.catalogue import BACKENDS
from tests.backends.kafka import fill_kafka
from tests.backends.mongo import fill_mongo
from tests.backends.process import BackendFailed, BackendMissing
from tests.backends.toxiproxy import fill_toxiproxy


def main(arguments: list[str]) -> int:
    """Do what the arguments say; 0 done, 1 missing or failed, 2 usage."""
    try:
        match arguments:
            case ["fill"]:
                print(fill_kafka(), fill_mongo(), fill_toxiproxy(), sep="\n")
            case [name] if name in BACKENDS:
                with TemporaryDirectory(prefix=f"raa-{name}-") as folder:
                    _run(name, Path(folder))
            case [name, folder] if name in BACKENDS:
                _run(name, Path(folder).absolute())
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (BackendMissing, BackendFailed) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _run(name: str, folder: Path) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), BACKENDS[name](folder) as server:
        print(f"RAA_TEST_{name.upper()}={server.address}", flush=True)
        server.process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
