"""The refusals of the broker: each text is read by the model, names the object, and says what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from remit.core import Call, Decision, Refusal, near_names, tool_name
from remit.core.events import ApprovalRejected

LONGEST_NAME: Final = 64  # characters of a tool's name that the model wrote
MOST_NAMES: Final = 20  # names of tools in one message
MOST_COMPARED: Final = 500  # names that a wrong name is compared with


def cut_turn() -> Refusal:
    """The model was stopped in the middle of its turn."""
    return Refusal(
        "invalid_arguments",
        "the turn was cut off before its end, so none of its calls runs",
        details={"problem": "truncated_turn"},
        next_step="send the calls again in a shorter turn",
    )


def blocked_arguments(action: str, note: str) -> Refusal:
    """A content rule with this note blocks the arguments."""
    return Refusal(
        "content_blocked",
        f"a content rule blocks the arguments of {action}: {note}",
        next_step="call it again without the blocked content",
    )


def unknown_action(name: str, agent: str, actions: Sequence[str]) -> Refusal:
    """The agent has no action of this name; the model reads which it has, at most `MOST_NAMES` of them."""
    tools = [tool_name(action) for action in actions]
    name = name[:LONGEST_NAME]
    near = near_names(tool_name(name), tools[:MOST_COMPARED], most=3)
    details = {"near": near, "tools": tools[:MOST_NAMES]}
    more = len(tools) - MOST_NAMES
    listed = ", ".join(tools[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return Refusal(
        "unknown_action",
        f"{name!r} is not a tool of {agent}; its tools are: {listed or 'none'}",
        details=details,
        next_step=f"call {' or '.join(near)}, or answer without it"
        if near
        else "call one of the listed tools, or answer without it",
    )


def knows_too_much(call: Call, decision: Decision) -> Refusal:
    """The sandbox of the call was given something since its decision, and with that the call is not allowed."""
    denial = decision.for_model
    return Refusal(
        "policy_denied",
        f"{call.action} is not allowed with what the sandbox of its tool was given since the call was decided",
        details={"reason": decision.reason, "rules": [] if denial is None else list(denial.rules)},
        next_step="send the call again if it is still needed: it is then decided with that",
    )


def check_definition(call: Call, manifest: str) -> None:
    """Raise `cancelled` if `manifest`, the digest of the tool's now, is not the one by which the call was resolved.

    INVARIANT: a run that goes on with a changed definition runs no call whose resources another manifest named.
    """
    if call.manifest != manifest:
        raise Refusal(
            "cancelled",
            f"the definition of {call.action} was changed after this call was decided",
            details={"problem": "changed_definition"},
            next_step="make the call again if it is still needed",
            retryable=True,
        )


def not_reviewed(tool: str) -> Refusal:
    """The tool is not pinned, or its files changed before the run."""
    return Refusal(
        "policy_denied",
        f"the files of tool {tool!r} are not the reviewed ones",
        details={"reason": "not_pinned"},
        next_step="continue without this tool, and tell the user that it must be reviewed",
    )


def no_secret(tool: str, why: str) -> Refusal:
    """A secret of the tool has no value now; `why` says so, and what a person has to do."""
    return Refusal(
        "policy_denied",
        f"tool {tool!r} lacks a secret: {why}",
        details={"reason": "no_secret"},
        next_step="continue without this tool, and tell the user about its secret",
    )


def secret_in_resource(action: str) -> Refusal:
    return Refusal(
        "content_blocked",
        f"the name of a resource in the arguments of {action} looks like a secret",
        next_step="call it with a resource whose name contains no secret",
    )


def lost_secret() -> Refusal:
    """The arguments were recorded without their secret, and only another process had it."""
    return Refusal(
        "cancelled",
        "the arguments contained an unrecorded secret, and the process that held it has exited",
        next_step="send the call again",
        retryable=True,
    )


def no_argument_text() -> Refusal:
    """The model library parses the arguments itself, and the agent does not accept that."""
    return Refusal(
        "invalid_arguments",
        "the model library does not provide the arguments as text",
        details={"problem": "no_raw_arguments"},
        next_step="tell the user to set `accept_parsed_arguments` for this agent",
    )


def rejected_by(rejected: ApprovalRejected, action: str) -> Refusal:
    if rejected.response is not None:
        return Refusal(
            "approval_rejected",
            f"{rejected.approver} answered in place of {action}, which did not run",
            details={"response": rejected.response, "by": rejected.approver},
            next_step="go on with that answer",
        )
    if rejected.edited is not None:
        made = rejected.edited
        return Refusal(
            "approval_rejected",
            f"{rejected.approver} made another call in place of {action}, which did not run",
            details={"edited": {"action": made.action, "arguments": made.parsed}},
            next_step="go on with the result of that call",
        )
    return Refusal(
        "approval_rejected",
        f"{rejected.approver} rejected the call of {action}",
        details={"reason": rejected.reason},
        next_step="do not repeat the call, and tell the user that it was rejected",
    )


def not_approved_in_time(action: str) -> Refusal:
    return Refusal(
        "approval_expired",
        f"nobody approved the call of {action} in time",
        next_step="call it again if it is still needed",
    )


def denied_by_policy(call: Call, decision: Decision) -> Refusal:
    """The denial as the policy words it for the model."""
    denial = decision.for_model
    assert denial is not None  # `Policy.advise` sets it for every denial
    return Refusal(
        "policy_denied",
        denial.message,
        details={
            "reason": denial.reason,
            "rules": list(denial.rules),
            "resources": [touch.resource for touch in call.touches],
        },
        next_step=denial.next_step,
    )
