"""Tell a container engine whether the service beside us is ready: exit code 0, or 1 with what is missing."""  # noqa: INP001

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    """Ask /readyz, as the load balancers do."""
    connection = HTTPConnection("127.0.0.1", int(os.environ["RAA_HTTP_PORT"]), timeout=4)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode())
    except (OSError, HTTPException) as problem:
        sys.stdout.write(f"{type(problem).__name__}: {problem}; the process does not answer yet, or no longer")
        return 1
    else:
        return 0 if answer.status == 200 else 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
