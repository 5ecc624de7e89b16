"""Events of the whole workspace: holds, alerts, rules in use, secrets, reads, and the circuit breakers of tools, each in a stream."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from remit.core.calls import FrozenModel
from remit.core.errors import Code
from remit.core.events.event import Event
from remit.core.principals import Principal

CODE: Final = "code:"  # the scope of a revocation begins so; the digest of the code follows


class HoldSet(Event):
    """Records that an operator holds (stops) a run, an agent, a tool, or everything. `number` counts the holds."""

    type: Literal["hold.set"] = "hold.set"
    number: int
    scope: str  # "run:…", "agent:…", "tool:…", "all"; "code:DIGEST" revokes code, which lasts
    reason: str
    by: Principal

    @property
    def key(self) -> str:
        return f"hold.set/{self.number}"


class HoldLifted(Event):
    """Records that an operator ends a hold."""

    type: Literal["hold.lifted"] = "hold.lifted"
    number: int
    scope: str
    by: Principal

    @property
    def key(self) -> str:
        return f"hold.lifted/{self.number}"


class AlertRaised(Event):
    """Records that runs of an agent have drifted, that a target is passed, that a candidate was taken back without a person, or that an
    MCP server lists other tools than were pinned.

    It is in force until `AlertClosed`. `subject` is what has drifted or passed, such as "refusals" or "p95 of files.read", the id of
    a rollout, or the tool of the server. `run` is the run at which it was seen, "" if it was seen at none, and `text` says it in one line. `changes` are the changes of the workspace that fit best, or how the server differs; `before` and `after` are runs to compare.
    """

    type: Literal["alert.raised"] = "alert.raised"
    kind: Literal["drift", "target", "rollout", "server"]
    agent: str
    subject: str
    run: str
    text: str
    changes: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def alert(self) -> str:
        """Its name: one alert of a name is in force at a time."""
        return f"{self.kind}:{self.agent}:{self.subject}"

    @property
    def key(self) -> str:
        return f"alert.raised/{self.alert}/{self.run}"


class AlertClosed(Event):
    """Records that an alert is no longer in force. `by` is the person who closed it, None if the target is met again, or the server is as it was pinned.

    `number` counts the events of the workspace.
    """

    type: Literal["alert.closed"] = "alert.closed"
    number: int
    alert: str
    by: Principal | None = None

    @property
    def key(self) -> str:
        return f"alert.closed/{self.number}"


class PolicyAdopted(Event):
    """Records that runs start under other rules, or with other pins of tools, than before. `run` is the first one, `by` who started it.

    `policy_digest` is that of the rules and `pins_digest` that of policies/tools.lock; `earlier_policy` and `earlier_pins` are those
    before, "" without any. `number` counts these events from 0. A run with the candidate of a rollout does not count.
    """

    type: Literal["policy.adopted"] = "policy.adopted"
    number: int
    run: str
    policy_digest: str
    pins_digest: str
    earlier_policy: str = ""
    earlier_pins: str = ""
    by: Principal

    @property
    def changes(self) -> tuple[str, ...]:
        """What is different: "rules", "pins"."""
        changed = {"rules": self.policy_digest != self.earlier_policy, "pins": self.pins_digest != self.earlier_pins}
        return tuple(name for name, is_changed in changed.items() if is_changed)

    @property
    def key(self) -> str:
        return f"policy.adopted/{self.number}"


class PolicyPublished(Event):
    """Records that a person puts rules in force for every process of the workspace, on all machines, whatever their files say.

    `files` are the rules, the teams, the entities and the cases: text by path (`policies/rules.csv`). Empty: each process has the
    rules of its own files again. `policy_digest` is that of the rules, and `earlier_policy` that of those in force before. `number`
    counts the events of the workspace.
    """

    type: Literal["policy.published"] = "policy.published"
    number: int
    files: dict[str, str]
    policy_digest: str
    earlier_policy: str
    reason: str
    by: Principal

    @property
    def key(self) -> str:
        return f"policy.published/{self.number}"


class SecretSet(Event):
    """Records that a person stored another value of a secret, which is never recorded. `number` counts the events of the workspace."""

    type: Literal["secret.set"] = "secret.set"
    number: int
    name: str
    by: Principal

    @property
    def key(self) -> str:
        return f"secret.set/{self.number}"


class ContentRead(Event):
    """Records that a person read what people, models and tools wrote in `run`. `number` counts the events of the workspace."""

    type: Literal["content.read"] = "content.read"
    number: int
    run: str
    how: Literal["show", "page", "export", "export for vendor"]
    by: Principal

    @property
    def key(self) -> str:
        return f"content.read/{self.number}"


class GivenDecision(FrozenModel):
    """Records the answer to one question of an enforcement point: who would do what on which resource, and what was decided.

    `code` is the reason of the decision, or why the rules were not asked. `rules` are the places of the rules that decided, as
    `policies/rules.csv:12`. A search has `found`, the number of results on its page, and an empty name for what it looks for.
    `at` is in Unix nanoseconds; `request` is the header X-Request-ID of the request, "" without one.
    """

    subject: str
    action: str
    resource: str
    allowed: bool
    code: str
    rules: tuple[str, ...] = ()
    found: int | None = None
    at: int = 0
    request: str = ""


class DecisionsGiven(Event):
    """Records decisions that an enforcement point was given under the rules with that digest: up to 100 of about one second.

    `number` counts the events of the workspace. What the enforcement point stated is not recorded.
    """

    type: Literal["decisions.given"] = "decisions.given"
    number: int
    point: str
    policy_digest: str
    decisions: tuple[GivenDecision, ...] = Field(max_length=100)
    by: Principal

    @property
    def key(self) -> str:
        return f"decisions.given/{self.number}"


class ToolFailed(Event):
    """Records that a tool failed through its own fault in `run`.

    After `limit` failures in a row its circuit opens: the tool rests for `rest_s` seconds, and twice as long after each trial
    that fails.
    """

    type: Literal["tool.failed"] = "tool.failed"
    tool: str
    run: str
    code: Code
    limit: int
    rest_s: float

    @property
    def key(self) -> str:
        return f"tool.failed/{self.run}/{self.step}/{self.index}/{self.attempt}"


class ToolTrialStarted(Event):
    """Records that one call is allowed to a tool after its rest (half-open circuit).

    `opened_at` is when the rest began, in Unix nanoseconds; `number` counts the trials after it.
    """

    type: Literal["tool.trial_started"] = "tool.trial_started"
    tool: str
    run: str
    opened_at: int
    number: int

    @property
    def key(self) -> str:
        return f"tool.trial_started/{self.tool}/{self.opened_at}/{self.number}"


class ToolRecovered(Event):
    """Records that a tool works again: its circuit closes."""

    type: Literal["tool.recovered"] = "tool.recovered"
    tool: str
    run: str

    @property
    def key(self) -> str:
        return f"tool.recovered/{self.run}/{self.step}/{self.index}/{self.attempt}"
