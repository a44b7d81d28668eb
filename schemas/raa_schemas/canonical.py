"""One canonical JSON form, so that a hash or signature made by one service means the same in another."""

import hashlib
import json
from typing import Any


def canonical_bytes(value: Any) -> bytes:
    """Encode a JSON value with sorted keys, no white space and UTF-8; raises ValueError on NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """Hash a JSON value by its canonical form: `sha256:` and 64 hexadecimal digits."""
    return digest_bytes(canonical_bytes(value))


def digest_bytes(data: bytes) -> str:
    """Hash bytes: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
