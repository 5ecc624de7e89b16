"""Who asks: a person, a service or an agent, and how Remit knows that. The entry point makes it and passes it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from remit.core.calls import FrozenModel

NOBODY: Final = "user:none"  # the user of an account that is mapped to no user
DEFAULT_TENANT: Final = "default"
NAME_OF_SUBJECT: Final = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"

Subject: TypeAlias = Annotated[str, Field(pattern=rf"^(user|service|agent):{NAME_OF_SUBJECT}$")]  # "user:ann"
# How a principal was authenticated.
Authentication: TypeAlias = Literal[
    "os_account",  # by the operating system: the account of the process
    "oidc",  # by a token of an identity provider
    "application",  # by the token of an application
    "api_key",
    "mcp",  # by a token of an MCP client
    "link",  # by a one-time link
    "script",  # not at all: the script of a demonstration names the person
]


class KeyScope(FrozenModel):
    """Records the most that an API key can do: these actions `remit.*`, with runs of these agents. Empty: nothing.

    `points` are the enforcement points for which it may ask for decisions.
    """

    actions: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    points: tuple[str, ...] = ()

    def covers(self, action: str, resource: str) -> bool:
        """True for one of the actions on `agent:NAME`, `run:own/NAME` or `run:other/NAME` of one of the agents."""
        kind, _, name = resource.partition(":")
        agent = {"agent": name, "run": name.partition("/")[2]}.get(kind, "")
        return action in self.actions and agent in self.agents


class Principal(FrozenModel):
    """Records who asks for something, and how that is known.

    `subject` is the name that rules use. `account` is the name at the authority that authenticated it: of an account of the
    operating system, or the `sub` of a token. `issuer` names that authority; "" is the operating system of this machine.
    `roles` are the roles from the claims of a token that `remit.toml` maps; empty: none. `session` is that of a login; "": none.
    `scope` bounds what the rules allow to an API key; None: it is bounded by the rules only.
    """

    subject: Subject
    authenticated: Authentication
    account: str
    issuer: str = ""
    roles: tuple[str, ...] = ()
    tenant: str = DEFAULT_TENANT
    session: str = ""
    scope: KeyScope | None = None

    @property
    def is_person(self) -> bool:
        """True for a user; False for a service, an agent, and an account that is mapped to no user."""
        return self.subject.startswith("user:") and self.subject != NOBODY


def roles_held(by: Principal, roles_of: Callable[[str], frozenset[str]]) -> frozenset[str]:
    """Every role of the principal: those that the rules give to its subject, and those of its token with what they inherit.

    `roles_of` returns the roles that the rules give to a subject or a role.
    """
    return roles_of(by.subject).union(by.roles, *(roles_of(role) for role in by.roles))


def is_principal(scope: str) -> bool:
    """True for the scope of a hold that disables a user or a service; an agent is held as all of its runs are."""
    return scope.startswith(("user:", "service:"))


def same_person(one: Principal, other: Principal) -> bool:
    """True if both can be one person: they have the same subject, or the same account of the same authority.

    Rules that need two people use it, so that nobody is a second person under another name or another account.
    """
    return one.subject == other.subject or (one.issuer, one.account) == (other.issuer, other.account)
