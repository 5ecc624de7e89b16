from .decoded import check_decoded, named_arguments, values_at
from .grants import NOTHING, GrantLine, Use, ceiling_lines, grant_text, lines_for, network_line, with_grant_text
from .manifest import (
    Action,
    ActionSchema,
    Breaker,
    Limits,
    Manifest,
    Pin,
    Retry,
    ServerPin,
    action_name,
    code_digest,
    is_code,
    parse_manifest,
    pin,
)
from .pins import LOCK, check_schemas, write_lock
from .repairs import read_arguments, repaired_name
from .resolution import check_output, command_schema, fill_argv, resolve
from .schema import ManifestTable, rules
from .sections import (
    Authority,
    resource_address,
    resource_arguments,
    resource_input,
    with_authorities,
    wrong_authorities,
)
from .targets import Target
from .touches import Template
from .undecided import MARK, open_lines

__all__ = [
    "LOCK",
    "MARK",
    "NOTHING",
    "Action",
    "ActionSchema",
    "Authority",
    "Breaker",
    "GrantLine",
    "Limits",
    "Manifest",
    "ManifestTable",
    "Pin",
    "Retry",
    "ServerPin",
    "Target",
    "Template",
    "Use",
    "action_name",
    "ceiling_lines",
    "check_decoded",
    "check_output",
    "check_schemas",
    "code_digest",
    "command_schema",
    "fill_argv",
    "grant_text",
    "is_code",
    "lines_for",
    "named_arguments",
    "network_line",
    "open_lines",
    "parse_manifest",
    "pin",
    "read_arguments",
    "repaired_name",
    "resolve",
    "resource_address",
    "resource_arguments",
    "resource_input",
    "rules",
    "values_at",
    "with_authorities",
    "with_grant_text",
    "write_lock",
    "wrong_authorities",
]
