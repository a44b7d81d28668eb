"""Ed25519 by the library `cryptography`: signs grants and verifies people's answers."""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raa_runtime.keys import key_id, public_key, public_text


class Ed25519Signer:
    """Signs with one private key that stays in this process; `public_key` is base64."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = public_text(key.public_key())
        self.key_id = key_id(key.public_key())

    def sign(self, content: bytes) -> str:
        return base64.b64encode(self._key.sign(content)).decode()


def verify_ed25519(public: str, content: bytes, signature: str) -> bool:
    """Say whether a signature is the key's over `content`; whatever is malformed is not. All text is base64."""
    try:
        public_key(public).verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
