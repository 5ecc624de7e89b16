from .access import (
    KEY_ACTIONS,
    KEY_PREFIX,
    Disabled,
    NewKey,
    create_key,
    digest_of,
    disable_principal,
    disabled_principals,
    enable_principal,
    list_keys,
    revoke_key,
)
from .async_remit import AsyncRemit
from .imports import Imported, import_traces
from .publishing import Publishable, publish_rules, publishable_rules, retract_rules
from .remit import Remit
from .replays import open_trace_of, replay_trace, reviewed_graphs
from .requests import (
    Approved,
    Bound,
    WaitingApproval,
    bound_lines,
    find_request,
    reject,
    revoke,
    waiting_approvals_of,
    who_continues,
)
from .results import CallResult, Explanation, call_result
from .review import EarlierCall, RequestReview, rapid_before, review_of
from .run_pages import RunPage, page_of_runs
from .streams import AsyncRunStream, RunStream

__all__ = [
    "KEY_ACTIONS",
    "KEY_PREFIX",
    "Approved",
    "AsyncRemit",
    "AsyncRunStream",
    "Bound",
    "CallResult",
    "Disabled",
    "EarlierCall",
    "Explanation",
    "Imported",
    "NewKey",
    "Publishable",
    "Remit",
    "RequestReview",
    "RunPage",
    "RunStream",
    "WaitingApproval",
    "bound_lines",
    "call_result",
    "create_key",
    "digest_of",
    "disable_principal",
    "disabled_principals",
    "enable_principal",
    "find_request",
    "import_traces",
    "list_keys",
    "open_trace_of",
    "page_of_runs",
    "publish_rules",
    "publishable_rules",
    "rapid_before",
    "reject",
    "replay_trace",
    "retract_rules",
    "review_of",
    "reviewed_graphs",
    "revoke",
    "revoke_key",
    "waiting_approvals_of",
    "who_continues",
]
