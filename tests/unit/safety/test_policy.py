"""The policy as data."""

import pytest
from pydantic import ValidationError

from raa_safety.domain.policy import Policy, read_policies
from raa_schemas.tool import ToolSpec


def tool(name: str, risk: str) -> ToolSpec:
    return ToolSpec.model_validate({"name": name, "arguments": {}, "risk": risk})


def test_the_shipped_policy_allows_read_and_workspace_and_asks_about_everything_else():
    policy = read_policies().of("anybody")
    assert [policy.judge(tool("x", risk)) for risk in ("read", "workspace", "external")] == ["allow", "allow", "ask"]


def test_the_strictest_rule_that_names_a_tool_wins():
    policy = Policy(allow_tools=frozenset("abc"), ask_tools=frozenset("ab"), deny_tools=frozenset("a"))
    assert [policy.judge(tool(name, "external")) for name in "abcd"] == ["deny", "ask", "allow", "ask"]


def test_an_external_tool_is_never_granted_with_the_plan_even_if_nobody_is_asked():
    policy = Policy(allow_risks=frozenset({"external", "read"}))
    assert policy.judge(tool("x", "external")) == "allow"
    assert not policy.granted_in_plan(tool("x", "external"))
    assert policy.granted_in_plan(tool("x", "read"))


def test_a_tenants_entry_changes_what_it_names_and_keeps_the_rest():
    book = read_policies('{"default": {"quorum": 2}, "tenants": {"acme": {"deny_tools": ["x"]}}}')
    assert book.of("acme").quorum == 2
    assert book.of("acme").judge(tool("x", "read")) == "deny"
    assert book.of("other").judge(tool("x", "read")) == "allow"


def test_the_version_is_that_of_the_rules_whatever_their_order():
    assert Policy(ask_tools=frozenset({"a", "b"})).version == Policy(ask_tools=frozenset({"b", "a"})).version
    assert Policy(ask_tools=frozenset({"a"})).version != Policy().version


@pytest.mark.parametrize(
    "text",
    [
        '{"default": {"alow_tools": []}}',
        '{"tenants": {"acme": {"quorums": 2}}}',
        "[",
        "{}}",
        '{"tenants": {"Not a tenant": {}}}',
        '{"default": {"quorum": 0}}',
    ],
)
def test_a_misspelt_rule_is_an_error_not_silence(text: str):
    with pytest.raises(ValidationError):
        read_policies(text)
