from .attempts import DecodedCall, LiveExecutor, Ready, ToolExecutor, receives_key, run_probe
from .broker import ApprovalPending, Broker
from .budgets import CALLS_PER_TURN, check_counted, check_turn, too_many_calls, wall_end
from .circuit_breaker import check_circuit, count_attempt
from .context import COSTLY, Moment, policy_context
from .decisions import Everything, narrow
from .effects import settle_effect
from .execution import QuestionPending
from .holds import check_revoked, hold_reason, lift_hold, requesters, set_hold
from .host import (
    Explained,
    Hosted,
    HostTool,
    HostValue,
    action_of,
    content_of,
    describe_function,
    describe_host,
    describe_tool,
    host_functions,
    invoke_tool,
    kept_for_tool,
    run_function,
    try_host,
    with_objects,
)
from .mcp import IS_ERROR, McpListing, differences, output_schema, with_server
from .ports import AttemptOutcome, During, ProbeOutcome, Question, ShadowRules, mismatch_of
from .receipt import landed_of, receipt_of, retrieved_by

__all__ = [
    "CALLS_PER_TURN",
    "COSTLY",
    "IS_ERROR",
    "ApprovalPending",
    "AttemptOutcome",
    "Broker",
    "DecodedCall",
    "During",
    "Everything",
    "Explained",
    "HostTool",
    "HostValue",
    "Hosted",
    "LiveExecutor",
    "McpListing",
    "Moment",
    "ProbeOutcome",
    "Question",
    "QuestionPending",
    "Ready",
    "ShadowRules",
    "ToolExecutor",
    "action_of",
    "check_circuit",
    "check_counted",
    "check_revoked",
    "check_turn",
    "content_of",
    "count_attempt",
    "describe_function",
    "describe_host",
    "describe_tool",
    "differences",
    "hold_reason",
    "host_functions",
    "invoke_tool",
    "kept_for_tool",
    "landed_of",
    "lift_hold",
    "mismatch_of",
    "narrow",
    "output_schema",
    "policy_context",
    "receipt_of",
    "receives_key",
    "requesters",
    "retrieved_by",
    "run_function",
    "run_probe",
    "set_hold",
    "settle_effect",
    "too_many_calls",
    "try_host",
    "wall_end",
    "with_objects",
    "with_server",
]
