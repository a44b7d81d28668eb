"""The key of the person at this machine: it signs what they decide about approvals."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raa_runtime.keys import key_id, load_or_create, public_text
from raa_schemas.approval import ApprovalDecided, ApprovalRequested, Verdict
from raa_schemas.canonical import canonical_bytes


@dataclass(frozen=True)
class Operator:
    """Someone who decides, by their key."""

    key: Ed25519PrivateKey

    @property
    def key_id(self) -> str:
        """Name the key, as safety knows it."""
        return key_id(self.key.public_key())

    def decide(
        self, asked: ApprovalRequested, verdict: Verdict, reason: str, *, deployment: str, tenant: str
    ) -> ApprovalDecided:
        """Sign a decision over exactly the action that was asked about."""
        unsigned = ApprovalDecided(
            task_id=asked.task_id,
            plan_version=asked.plan_version,
            step=asked.step,
            approval_id=asked.approval_id,
            args_hash=asked.args_hash,
            verdict=verdict,
            decided_by=self.key_id,
            reason=reason,
            signature="",
        )
        signature = self.key.sign(canonical_bytes(unsigned.signed_content(deployment, tenant)))
        return unsigned.model_copy(update={"signature": base64.b64encode(signature).decode()})


def operator_of(data: Path) -> Operator:
    """Load the key of a data folder, made at first use; its public half lies beside it, where safety reads it."""
    folder = data / "keys"
    operator = Operator(load_or_create(folder / "operator.pem"))
    public = {"key_id": operator.key_id, "public_key": public_text(operator.key.public_key())}
    file, text = folder / "operator.pub", json.dumps(public) + "\n"
    if not file.is_file() or file.read_text() != text:
        fresh = folder / "operator.pub.new"
        fresh.write_text(text)
        fresh.replace(file)
    return operator
