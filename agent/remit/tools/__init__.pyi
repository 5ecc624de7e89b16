from .card import permission_card
from .cases import check_tool_cases, read_tool_cases
from .grants_check import check_grants, check_packages
from .graph_pins import pinnable
from .mcp import Elsewhere, ImportedServer, import_remote, import_server, name_of_server
from .offered import model_view, spec_lines
from .recording import Recorded, record_case
from .source_check import check_source, failed_at
from .usage_audit import UsageReport, observe_tool
from .workbench import (
    ToolCaseResult,
    code_of,
    derive_pin,
    interpreter,
    known_tool,
    parse_fields,
    parse_pairs,
    pin_tools,
    run_tool_cases,
    scratch_folder,
    try_action,
    undecided_problems,
)

__all__ = [
    "Elsewhere",
    "ImportedServer",
    "Recorded",
    "ToolCaseResult",
    "UsageReport",
    "check_grants",
    "check_packages",
    "check_source",
    "check_tool_cases",
    "code_of",
    "derive_pin",
    "failed_at",
    "import_remote",
    "import_server",
    "interpreter",
    "known_tool",
    "model_view",
    "name_of_server",
    "observe_tool",
    "parse_fields",
    "parse_pairs",
    "permission_card",
    "pin_tools",
    "pinnable",
    "read_tool_cases",
    "record_case",
    "run_tool_cases",
    "scratch_folder",
    "spec_lines",
    "try_action",
    "undecided_problems",
]
