"""The scope of a run: a remit narrower than its agent's, set at its start by the user or a planner that reads nothing else.

A scope is a further subject that must be allowed, `task:this`, with rows of its own and no others: so it can only narrow, and
what agent and user may do stays what it is. What lies beyond is denied, or asked of the role that `widen` names.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from remit.core import Scope, ScopeEntry, WorkspaceError
from remit.core.parsing import Matching, TomlTable, load_toml, read_table
from remit.policy.engine import Policy

SUBJECT: Final = "task:this"
FILE: Final = "scope.toml"  # how rules of a scope name their file, wherever it came from


class AllowTable(TomlTable):
    """What the run may do. Absent: any resource, any number of calls, as far as agent and user may."""

    action: Annotated[str, Matching(r"[a-z][a-z0-9_]*\.(?:\*|[a-z][a-z0-9_]*)", "an action", 'write "mail.send"')]
    resource: Annotated[str, Matching(r"[^\s,#'\"]+(?: [^\s,#'\"]+)*", "a resource", 'write "file:docs/**"')] = "**"
    calls: Annotated[int, Field(ge=0, le=100_000)] | None = None


class ScopeTable(TomlTable):
    """The file. `widen` absent: nobody can let the run go beyond."""

    widen: Annotated[str, Matching(r"role:[A-Za-z0-9][A-Za-z0-9._@+-]*", "a role", 'write "role:owner"')] | None = None
    allow: list[AllowTable] = []


def read_scope(text: str, *, file: str = FILE) -> Scope:
    """A scope as people write it, in TOML.

    Raises:
        WorkspaceError: with every problem, its line and what to write.
    """
    table, problems = read_table(ScopeTable, load_toml(text, file=file), file=file, text=text)
    if table is None or problems:
        raise WorkspaceError(problems)
    allowed = tuple(ScopeEntry(action=one.action, resource=one.resource, calls=one.calls) for one in table.allow)
    return Scope(allow=allowed, widen=table.widen or "")


def narrowed(policy: Policy, scope: Scope) -> Policy:
    """The same rules, and those of the scope for `task:this`.

    Raises:
        WorkspaceError: an action or a resource that does not exist.
    """
    rows = [f"p, {SUBJECT}, {one.action}, {one.resource}, {_condition(one)}, allow" for one in scope.allow]
    if scope.widen:
        rows.append(f"p, {SUBJECT}, *, **, approved('{scope.widen}'), allow")
    return policy.extended("\n".join(["# The scope of this run", *rows]), file=FILE, subject=SUBJECT)


def scope_text(scope: Scope) -> str:
    """What a run may do at most, in one line."""
    parts = [
        one.action
        + (f" on {one.resource}" if one.resource != "**" else "")
        + ("" if one.calls is None else f", {one.calls} times")
        for one in scope.allow
    ]
    beyond = f"{scope.widen} is asked" if scope.widen else "nothing"
    return f"{'; '.join(parts) or 'nothing'}; beyond it {beyond}"


def _condition(one: ScopeEntry) -> str:
    return "True" if one.calls is None else f"calls('{one.action}') < {one.calls}"
