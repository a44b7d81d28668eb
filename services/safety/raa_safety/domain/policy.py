"""The policy as data: what runs under the plan's grant, what a person is asked about, what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from raa_schemas.canonical import digest
from raa_schemas.ids import TENANT_PATTERN
from raa_schemas.step import Risk
from raa_schemas.tool import ToolSpec

Judgement = Literal["allow", "ask", "deny"]
IN_PLAN: Final[frozenset[Risk]] = frozenset({"read", "workspace"})  # the grant of the plan covers the template


class Policy(BaseModel):
    """The rules of one tenant. An unknown key is refused: a misspelt rule must not be silently absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_risks: frozenset[Risk] = Field(IN_PLAN, description="risks that need no approval")
    allow_tools: frozenset[str] = Field(frozenset(), description="tools that need no approval, whatever their risk")
    ask_tools: frozenset[str] = Field(frozenset(), description="tools that always wait for an approval")
    deny_tools: frozenset[str] = Field(frozenset(), description="tools that no plan may name")
    approvers: tuple[str, ...] = Field((), description="key ids that may decide; empty: every known key")
    quorum: int = Field(1, ge=1, le=20, description="how many different approvers have to agree")

    def judge(self, tool: ToolSpec) -> Judgement:
        """Decide on a tool: the strictest rule that names it wins, its risk decides where none does."""
        if tool.name in self.deny_tools:
            return "deny"
        if tool.name in self.ask_tools:
            return "ask"
        return "allow" if tool.name in self.allow_tools or tool.risk in self.allow_risks else "ask"

    def granted_in_plan(self, tool: ToolSpec) -> bool:
        """Say whether the plan's grant may cover the template; external tools are decided on bound arguments only."""
        return tool.risk in IN_PLAN and self.judge(tool) == "allow"

    @cached_property
    def version(self) -> str:
        """Digest of the rules; grants cite it."""
        rules = {
            name: sorted(value) if isinstance(value, frozenset) else value for name, value in self.model_dump().items()
        }
        return digest(rules)


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """The deployment's policy and the policies of the tenants that differ from it."""

    default: Policy
    tenants: Mapping[str, Policy]

    def of(self, tenant: str) -> Policy:
        """Give the rules of a tenant."""
        return self.tenants.get(tenant, self.default)


class _Written(BaseModel):
    """A policy file: `{"default": {…}, "tenants": {"acme": {…}}}`."""

    model_config = ConfigDict(extra="forbid")

    default: Policy = Policy()
    tenants: dict[Annotated[str, Field(pattern=TENANT_PATTERN)], dict[str, Any]] = Field(default_factory=dict)


def read_policies(text: bytes | str = "{}") -> PolicyBook:
    """Read a policy file; a tenant's entry names only what differs from the default. Raises ValidationError."""
    written = _Written.model_validate_json(text)
    shared = written.default.model_dump()
    tenants = {tenant: Policy.model_validate(shared | differing) for tenant, differing in written.tenants.items()}
    return PolicyBook(written.default, tenants)
