"""Which tenant a record belongs to: the topic binds, a header counts on shared topics, nothing is guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_schemas.envelope import InvalidEventError, TenantMismatchError
from raa_schemas.ids import is_tenant_id
from raa_schemas.task import TaskCreated, TaskDone
from raa_schemas.tenants import IntakePolicy, resolve_tenant
from raa_schemas.topics import tenant_topic

OPEN = IntakePolicy(allow_anonymous=True)
CLOSED = IntakePolicy()
LISTED = IntakePolicy(allow_anonymous=True, tenants=frozenset({"acme", "default"}))
SHARED, ACMES = "task.created", tenant_topic("acme", TaskCreated)

tenants = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")


@pytest.mark.parametrize(
    ("topic", "header", "policy", "tenant"),
    [
        (SHARED, None, OPEN, "default"),
        (SHARED, "", OPEN, "default"),
        (SHARED, "acme", OPEN, "acme"),
        (SHARED, "acme", CLOSED, "acme"),
        (SHARED, "acme", LISTED, "acme"),
        (SHARED, None, LISTED, "default"),
        (ACMES, None, OPEN, "acme"),
        (ACMES, None, CLOSED, "acme"),
        (ACMES, "acme", CLOSED, "acme"),
        (ACMES, None, LISTED, "acme"),
    ],
)
def test_topic_header_and_policy_name_the_tenant(
    topic: str, header: str | None, policy: IntakePolicy, tenant: str
) -> None:
    assert resolve_tenant(topic, header, policy) == tenant


@pytest.mark.parametrize(
    ("topic", "header", "policy", "advice"),
    [
        (SHARED, None, CLOSED, "set the header ce_tenant"),
        (SHARED, "", CLOSED, "set the header ce_tenant"),
        (SHARED, "Acme", OPEN, "use up to 63 of a-z"),
        (SHARED, "acme\n", OPEN, "use up to 63 of a-z"),
        (SHARED, "acme/../other", OPEN, "use up to 63 of a-z"),
        (SHARED, "a" * 64, OPEN, "use up to 63 of a-z"),
        (SHARED, "stranger", LISTED, "add it to RAA_TENANTS"),
        (SHARED, None, IntakePolicy(allow_anonymous=False, tenants={"acme"}), "set the header ce_tenant"),
        (tenant_topic("stranger", TaskCreated), None, LISTED, "add it to RAA_TENANTS"),
    ],
)
def test_a_record_of_no_known_tenant_is_refused_with_advice(
    topic: str, header: str | None, policy: IntakePolicy, advice: str
) -> None:
    with pytest.raises(InvalidEventError, match=advice):
        resolve_tenant(topic, header, policy)


@given(tenants, tenants)
def test_a_header_never_moves_a_record_out_of_its_tenants_topic(owner: str, other: str) -> None:
    topic = tenant_topic(owner, TaskCreated)
    if owner == other:
        assert resolve_tenant(topic, other, CLOSED) == owner
    else:
        with pytest.raises(TenantMismatchError, match="drop the header"):
            resolve_tenant(topic, other, OPEN)


@given(st.none() | st.text(max_size=80))
def test_whatever_the_header_says_the_tenant_is_a_tenant_id(header: str | None) -> None:
    try:
        tenant = resolve_tenant(SHARED, header, OPEN)
    except InvalidEventError:
        assert header is not None
        assert not is_tenant_id(header)
    else:
        assert is_tenant_id(tenant)


def test_the_topics_of_a_tenant_are_named_after_it() -> None:
    assert tenant_topic("acme", TaskDone) == "tenants.acme.task.done"
