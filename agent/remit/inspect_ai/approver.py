"""An approver: the rules of a Remit workspace decide the calls of tools that Inspect runs itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Final

from inspect_ai.approval import Approval, ApprovalDecision, Approver, approver
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall, ToolCallView

from remit.client import AsyncRemit
from remit.core import Json, ProposedCall, Refusal, Verdict, tool_name
from remit.core.events import CallDecided
from remit.core.parsing import canonical_json, load_json
from remit.runtime import OutsideCall, acting_subject, advise, agent_of

DECISIONS: Final[Mapping[Verdict, ApprovalDecision]] = {"allow": "approve", "ask": "escalate", "deny": "reject"}


@approver(name="remit")
def remit_approver(
    agent: str, workspace: str | None = None, user: str | None = None, names: Mapping[str, str] | None = None
) -> Approver:
    """Let the rules of a Remit workspace decide each call: `allow` approves it, `deny` rejects it, `ask` escalates it.

    It is advice and no boundary: Inspect runs its own tool, with what the tool makes of the arguments. Facts follow from the history
    of the sample: the user's own words are its user messages, and results put their labels on it. Nothing is recorded in the journal.

    Args:
        agent: the agent of the workspace whose rules count. Its actions are those that can be approved.
        workspace: its folder; None: the one that the current folder is in.
        user: the user that the agent acts for; None: who runs Inspect.
        names: the action (`files.read`) of each tool of Inspect that is not named like it (`files__read`).

    Raises:
        UsageError: there is no such agent.
        WorkspaceError: the workspace is not valid.
        Refusal: `policy_denied`: the rules do not allow who runs Inspect to act for `user`.
    """
    client = AsyncRemit.open(workspace)
    agent_of(client.session, agent)
    subject = acting_subject(client.session, client.principal, user)
    known = dict(names or {})

    async def approve(message: str, call: ToolCall, view: ToolCallView, history: list[ChatMessage]) -> Approval:
        turns = _turns(history, call, known)
        try:
            decided = await advise(client.session, agent, _words(history), turns, subject=subject, by=client.principal)
        except Refusal as refusal:
            return Approval(decision="reject", explanation=str(refusal))
        return _approval(decided)

    return approve


def _approval(decided: CallDecided) -> Approval:
    decision = decided.decision
    if decision is None:
        refused = "" if decided.refusal is None else canonical_json(decided.refusal.model_dump(mode="json")).decode()
        return Approval(decision="reject", explanation=refused)
    resources = [] if decided.call is None else [touch.resource for touch in decided.call.touches]
    return Approval(
        decision=DECISIONS[decision.verdict],
        explanation=decision.message or decision.verdict,
        metadata={"resources": resources, "policy": decision.policy_digest},
    )


def _words(history: Sequence[ChatMessage]) -> str:
    """The user's own words. A solver may put texts of a model into user messages of its own: these do not count."""
    return "\n".join(message.text for message in history if message.role == "user" and message.source == "input")


def _turns(history: Sequence[ChatMessage], call: ToolCall, names: Mapping[str, str]) -> list[list[OutsideCall]]:
    """The calls of the conversation, turn by turn. The last one is `call`: what comes after it in its turn is left out."""
    turns: list[dict[str, OutsideCall]] = []
    for message in history:
        if isinstance(message, ChatMessageAssistant):
            turns.append({each.id: OutsideCall(proposed=_proposed(each, names)) for each in message.tool_calls or ()})
        elif isinstance(message, ChatMessageTool) and turns:
            asked = turns[-1].get(message.tool_call_id or "")
            unknown = ProposedCall(name=message.function or "", arguments="{}")
            turns[-1][message.tool_call_id or f"_{len(turns[-1])}"] = OutsideCall(
                proposed=unknown if asked is None else asked.proposed, answered=True, value=_value(message.text)
            )
    current = turns.pop() if turns and call.id in turns[-1] else {}
    before = list(takewhile(lambda each: each != call.id, current))
    own = OutsideCall(proposed=_proposed(call, names))
    return [*(list(turn.values()) for turn in turns), [*(current[each] for each in before), own]]


def _proposed(call: ToolCall, names: Mapping[str, str]) -> ProposedCall:
    name = names.get(call.function, call.function)
    return ProposedCall(name=tool_name(name), arguments=json.dumps(call.arguments), id=call.id)


def _value(text: str) -> Json:
    """What the model read of a result: its JSON, or the text itself."""
    try:
        return load_json(text)
    except ValueError:
        return text
