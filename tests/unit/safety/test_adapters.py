"""Keys and signatures as safety reads them."""

import base64
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raa_runtime.telemetry import logger
from raa_safety.adapters.approver_files import FileApproverKeys
from raa_safety.adapters.ed25519 import Ed25519Signer, verify_ed25519

SIGNER = Ed25519Signer(Ed25519PrivateKey.generate())


def test_a_signature_verifies_with_its_key_and_content_only():
    signature = SIGNER.sign(b"content")
    assert verify_ed25519(SIGNER.public_key, b"content", signature)
    assert not verify_ed25519(SIGNER.public_key, b"content.", signature)
    assert not verify_ed25519(Ed25519Signer(Ed25519PrivateKey.generate()).public_key, b"content", signature)


@pytest.mark.parametrize("text", ["", "not base64 ü", "AAAA", base64.b64encode(b"x" * 64).decode()])
def test_a_malformed_key_or_signature_is_just_not_valid(text: str):
    assert not verify_ed25519(SIGNER.public_key, b"content", text)
    assert not verify_ed25519(text, b"content", SIGNER.sign(b"content"))


def test_the_same_content_gets_the_same_signature():
    assert SIGNER.sign(b"content") == SIGNER.sign(b"content")


def test_a_key_file_may_come_change_and_go(tmp_path: Path):
    file = tmp_path / "operator.pub"
    keys = FileApproverKeys({"fixed": "F"}, [file], logger("test"))
    assert keys.known() == {"fixed": "F"}
    file.write_text(json.dumps({"key_id": "one", "public_key": "1"}))
    assert keys.known() == {"fixed": "F", "one": "1"}
    file.write_text(json.dumps([{"key_id": "two", "public_key": "2"}, {"key_id": "fixed", "public_key": "evil"}]))
    os.utime(file, ns=(1, 1))
    assert keys.known() == {"fixed": "F", "two": "2"}
    file.write_text("not json")
    assert keys.known() == {"fixed": "F"}
    file.unlink()
    assert keys.known() == {"fixed": "F"}
