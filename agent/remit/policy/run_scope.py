"""The scope of a run: permissions narrower than its agent's, set at its start by the user, or by a planner that reads nothing else.

A scope is a further subject, `task:this`, that must be allowed too. It has its own rows and no others, so it can only narrow:
what agent and user may do does not change. A call beyond the scope is denied, or needs approval by the role in `widen`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final

from pydantic import Field

from remit.core import Principal, Scope, ScopeEntry, WorkspaceError
from remit.core.parsing import Matching, TomlTable, load_toml, read_table
from remit.policy.engine import Policy

SUBJECT: Final = "task:this"
SCOPE_FILE: Final = "scope.toml"  # the file that rules of a scope name, whatever its real path


class AllowTable(TomlTable):
    """One permission of the run. Without `resource` or `calls`: any resource, any number of calls, within the agent's rules."""

    action: Annotated[str, Matching(r"[a-z][a-z0-9_]*\.(?:\*|[a-z][a-z0-9_]*)", "an action", 'write "mail.send"')] = (
        Field(description='"mail.send" or "mail.*"')
    )
    resource: Annotated[str, Matching(r"[^\s,#'\"]+(?: [^\s,#'\"]+)*", "a resource", 'write "file:docs/**"')] = Field(
        default="**", description='"file:docs/**"'
    )
    calls: Annotated[int, Field(ge=0, le=100_000)] | None = Field(default=None, description="The most calls of the run")


class ScopeTable(TomlTable):
    """The file. Without `widen`, nobody can approve a call beyond the scope. Without `allow`, nothing is allowed."""

    widen: Annotated[str, Matching(r"role:[A-Za-z0-9][A-Za-z0-9._@+-]*", "a role", 'write "role:owner"')] | None = (
        Field(default=None, description="The role that may approve a call beyond the scope")
    )
    allow: list[AllowTable] = Field(default=[], description="One table for each permission")


def read_scope(text: str, *, file: str = SCOPE_FILE) -> Scope:
    """Read a scope from TOML.

    Raises:
        WorkspaceError: every problem, with its line and fix.
    """
    table, problems = read_table(ScopeTable, load_toml(text, file=file), file=file, text=text)
    if table is None or problems:
        raise WorkspaceError(problems)
    allowed = tuple(
        ScopeEntry(action=entry.action, resource=entry.resource, calls=entry.calls) for entry in table.allow
    )
    return Scope(allow=allowed, widen=table.widen or "")


def narrowed(policy: Policy, scope: Scope) -> Policy:
    """The same rules, and those of the scope for `task:this`.

    Raises:
        WorkspaceError: the scope names an action or a resource that does not exist.
    """
    rows = [f"p, {SUBJECT}, {entry.action}, {entry.resource}, {_condition(entry)}, allow" for entry in scope.allow]
    if scope.widen:
        rows.append(f"p, {SUBJECT}, *, **, approved('{scope.widen}'), allow")
    return policy.extended("\n".join(["# The scope of this run", *rows]), file=SCOPE_FILE, subject=SUBJECT)


def policy_for(policy: Policy, user: str, roles: tuple[str, ...], scope: Scope | None) -> Policy:
    """The rules for the calls of one run: its user has the roles of the token with which the run was started, and its scope narrows it.

    INVARIANT: stock Casbin and the approvals of a call read this same policy, so a role of a token counts for denials as for permissions.

    Raises:
        WorkspaceError: the scope names an action or a resource that does not exist.
    """
    return _policy_for(policy, user, roles, scope)  # pyright: ignore[reportArgumentType] - pydantic's frozen models are hashable


@lru_cache(maxsize=64)
def _policy_for(policy: Policy, user: str, roles: tuple[str, ...], scope: Scope | None) -> Policy:
    given = policy.with_roles(user, roles) if roles else policy
    return given if scope is None else narrowed(given, scope)


def token_roles(by: Principal, user: str) -> tuple[str, ...]:
    """The roles of the token that count for an agent's calls: those of its user, and of no other who acts for them."""
    return by.roles if by.subject == user else ()


def scope_text(scope: Scope) -> str:
    """The scope in one line, for people."""
    parts = [
        entry.action
        + (f" on {entry.resource}" if entry.resource != "**" else "")
        + ("" if entry.calls is None else f", at most {entry.calls} times")
        for entry in scope.allow
    ]
    beyond = f"needs approval by {scope.widen}" if scope.widen else "is denied"
    return f"{'; '.join(parts) or 'nothing'}; anything else {beyond}"


def _condition(entry: ScopeEntry) -> str:
    return "True" if entry.calls is None else f"calls('{entry.action}') < {entry.calls}"
