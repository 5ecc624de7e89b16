from .access.issuers import Algorithm, ApplicationIssuer, OidcIssuer, audiences, repeated_pairs
from .answer_contract import AnswerContract
from .bundle import (
    CODE_DIGESTS,
    Bundle,
    files_of,
    open_bundle,
    open_bundles,
    read_digests,
    tool_specs,
    vocabulary,
)
from .definitions import (
    RESERVED,
    Agent,
    Budget,
    Casbin,
    GraphFactory,
    KeepRule,
    LookUp,
    Mode,
    Settings,
    Tool,
    Workspace,
)
from .file_schema import MARKER
from .files import find_workspace, read_code
from .identity import check_tenant, principal_of_process
from .labels import labels_in, labels_of
from .limits import LIMITS, Measure, SharedLimit, limit_claims, limit_refusal
from .loader import load_files, load_workspace
from .manifest.pins import LOCK
from .own_actions import (
    OWN_ACTIONS,
    OwnAction,
    approve_act,
    authorize,
    authorize_hold,
    authorize_run,
    authorize_runs,
    check_enabled,
    may,
    open_acts,
    readable,
    resource_of,
    run_resource,
)
from .price_sync import SyncedPrices, sync_prices
from .prices import PRICES, ModelPrice, Prices, millionths
from .session import WorkspaceSession, load_workspace_and_policy, open_journal_of, open_session, policy_files
from .settings.notify import Channel
from .settings.serve import ServeSettings
from .template import write_starter

__all__ = [
    "CODE_DIGESTS",
    "LIMITS",
    "LOCK",
    "MARKER",
    "OWN_ACTIONS",
    "PRICES",
    "RESERVED",
    "Agent",
    "Algorithm",
    "AnswerContract",
    "ApplicationIssuer",
    "Budget",
    "Bundle",
    "Casbin",
    "Channel",
    "GraphFactory",
    "KeepRule",
    "LookUp",
    "Measure",
    "Mode",
    "ModelPrice",
    "OidcIssuer",
    "OwnAction",
    "Prices",
    "ServeSettings",
    "Settings",
    "SharedLimit",
    "SyncedPrices",
    "Tool",
    "Workspace",
    "WorkspaceSession",
    "approve_act",
    "audiences",
    "authorize",
    "authorize_hold",
    "authorize_run",
    "authorize_runs",
    "check_enabled",
    "check_tenant",
    "files_of",
    "find_workspace",
    "labels_in",
    "labels_of",
    "limit_claims",
    "limit_refusal",
    "load_files",
    "load_workspace",
    "load_workspace_and_policy",
    "may",
    "millionths",
    "open_acts",
    "open_bundle",
    "open_bundles",
    "open_journal_of",
    "open_session",
    "policy_files",
    "principal_of_process",
    "read_code",
    "read_digests",
    "readable",
    "repeated_pairs",
    "resource_of",
    "run_resource",
    "sync_prices",
    "tool_specs",
    "vocabulary",
    "write_starter",
]
