"""The composition root of safety: the only place that builds its signer, its catalog and its service."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from pydantic import ValidationError

from raa_runtime.errors import Misconfigured
from raa_runtime.platform import Platform
from raa_runtime.service import On, Service, Timer
from raa_runtime.telemetry import Logger, Metrics
from raa_safety import api, handlers
from raa_safety.adapters.approver_files import FileApproverKeys
from raa_safety.adapters.ed25519 import Ed25519Signer, verify_ed25519
from raa_safety.adapters.http_catalog import HttpToolCatalog
from raa_safety.domain.keyring import GRANT_KEYS, KEYRING, GrantKey, add_key
from raa_safety.domain.policy import PolicyBook, read_policies
from raa_safety.domain.switch import SWITCH
from raa_safety.domain.task import TASK
from raa_safety.metrics import SafetyMetrics, observer
from raa_safety.ports import ApproverKeys, SignatureCheck
from raa_safety.settings import SafetySettings
from raa_schemas.action import ActionProposed
from raa_schemas.approval import ApprovalDecided
from raa_schemas.cancel import CancelRequested
from raa_schemas.plan import PlanProposed


def build(
    settings: SafetySettings,
    platform: Platform,
    catalog: HttpToolCatalog | None = None,
    signer: Ed25519Signer | None = None,
    approvers: ApproverKeys | None = None,
    verified: SignatureCheck = verify_ed25519,
) -> Service:
    """Wire safety; raises Misconfigured for a policy or key that cannot be read."""
    log, metrics = platform.logger("safety"), Metrics()
    catalog = catalog or HttpToolCatalog(platform.http, settings.executor_url, settings.tools_refresh_seconds, log)
    signer = signer or Ed25519Signer(platform.keys(settings.grant_key))
    own = GrantKey(key_id=signer.key_id, public_key=signer.public_key)
    desk = handlers.Desk(
        catalog=catalog,
        policies=_policies(settings),
        signer=signer,
        approvers=approvers or _approvers(settings, log),
        verified=verified,
        grant_lifetime=timedelta(seconds=settings.grant_seconds),
        approval_lifetime=timedelta(seconds=settings.approval_seconds),
        linger=timedelta(seconds=settings.linger_seconds),
    )

    async def announce_key() -> None:
        await service.call(KEYRING, GRANT_KEYS, add_key, own)

    service = Service(
        "safety",
        settings,
        platform,
        kinds=[TASK, SWITCH, KEYRING],
        on=[
            On(PlanProposed, TASK, partial(handlers.on_plan_proposed, desk=desk)),
            On(ActionProposed, TASK, partial(handlers.on_action_proposed, desk=desk)),
            On(ApprovalDecided, TASK, partial(handlers.on_approval_decided, desk=desk)),
            On(CancelRequested, TASK, handlers.on_cancel_requested),
        ],
        timers=[
            Timer("expiry", TASK, partial(handlers.on_expiry, desk=desk)),
            Timer("end", TASK, handlers.on_end),
        ],
        api=api.routes(lambda: service, own, settings.revoked_grant_keys, log),
        pings={"executor": catalog.ping},
        background=[catalog.keep_fresh],
        before_ready=[announce_key],
        observers=[observer(SafetyMetrics(metrics), log)],
        metrics=metrics,
    )
    return service


def _policies(settings: SafetySettings) -> PolicyBook:
    if settings.policy is None:
        return read_policies()
    try:
        return read_policies(settings.policy.read_bytes())
    except (OSError, ValidationError) as problem:
        raise Misconfigured(f"RAA_POLICY: {settings.policy} is no policy, see safety's README: {problem}") from None


def _approvers(settings: SafetySettings, log: Logger) -> FileApproverKeys:
    files = [settings.data / "keys" / "operator.pub"]  # written by the CLI of an embedded stack
    if settings.approver_keys_file:
        files.append(settings.approver_keys_file)
    return FileApproverKeys(_fixed_keys(settings), files, log)


def _fixed_keys(settings: SafetySettings) -> Mapping[str, str]:
    keys = dict(item.partition("=")[::2] for item in settings.approver_keys)
    if wrong := [key_id for key_id, public_key in keys.items() if not key_id or not public_key]:
        raise Misconfigured(f"RAA_APPROVER_KEYS: {wrong[0]!r} is not written as key_id=<base64 Ed25519 public key>")
    return keys
