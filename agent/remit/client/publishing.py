"""Puts rules in force for every process of a workspace, on all machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from remit.core import Principal, UsageError
from remit.core.events import PolicyPublished
from remit.journal import note_act
from remit.policy import Policy, check_agreement, load_policy, read_case_tables, read_folder
from remit.workspace import WorkspaceSession, authorize, published_rules, vocabulary


@dataclass(frozen=True, kw_only=True)
class Publishable:
    """The rules of the files of a workspace, checked, with their cases: text by path."""

    files: Mapping[str, str]
    policy: Policy


def publishable_rules(session: WorkspaceSession) -> Publishable:
    """The rules of `policies/` on disk. Raises WorkspaceError if they are not valid, or stock Casbin decides a case differently."""
    folder = session.root / "policies"
    files, tables = read_folder(folder), read_case_tables(folder)
    policy = load_policy(files, vocabulary(session.workspace))
    check_agreement(policy, tables)
    texts = {path: data.decode() for path, data in files.items()}
    return Publishable(files={**texts, **{table.file: table.text for table in tables if table.text}}, policy=policy)


def publish_rules(session: WorkspaceSession, rules: Publishable, *, by: Principal, reason: str) -> None:
    """Record that these rules are in force from now on. The rules in force until now decide who may do that.

    Raises:
        Refusal: `policy_denied` or `approval_required` for `remit.policy` on `policy:rules`.
        UsageError: they are in force already.
    """
    published = published_rules(session.journal)
    if published is not None and published.files == rules.files:
        raise UsageError("the rules of policies/ are published already: nothing to do")
    authorize(session.policy, by, "remit.policy", "policy:rules", "publish the rules", journal=session.journal)
    _record(session, rules.files, rules.policy.digest, by, reason)


def retract_rules(session: WorkspaceSession, *, by: Principal, reason: str) -> None:
    """Record that each process has the rules of its own files again.

    Raises:
        Refusal: `policy_denied` or `approval_required` for `remit.policy` on `policy:rules`.
        UsageError: no rules are published.
    """
    if published_rules(session.journal) is None:
        raise UsageError("no rules are published: each process has those of its own files")
    authorize(session.policy, by, "remit.policy", "policy:rules", "end the published rules", journal=session.journal)
    _record(session, {}, publishable_rules(session).policy.digest, by, reason)


def _record(session: WorkspaceSession, files: Mapping[str, str], digest: str, by: Principal, reason: str) -> None:
    def event(number: int) -> PolicyPublished:
        return PolicyPublished(
            number=number,
            files=dict(files),
            policy_digest=digest,
            earlier_policy=session.policy.digest,
            reason=reason,
            by=by,
        )

    note_act(session.journal, event, durable=True)
