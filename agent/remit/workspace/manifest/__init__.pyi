from .decoded import check_decoded, named_arguments, values_at
from .manifest import (
    Action,
    ActionSchema,
    Breaker,
    Limits,
    Manifest,
    Pin,
    Retry,
    action_name,
    code_digest,
    is_code,
    pin,
)
from .observation import with_enforced
from .pins import LOCK, check_schemas, write_lock
from .repairs import read_arguments, repaired_name
from .resolution import check_output, command_schema, fill_argv, resolve
from .schema import ManifestTable, rules
from .targets import Target
from .touches import Template

__all__ = [
    "LOCK",
    "Action",
    "ActionSchema",
    "Breaker",
    "Limits",
    "Manifest",
    "ManifestTable",
    "Pin",
    "Retry",
    "Target",
    "Template",
    "action_name",
    "check_decoded",
    "check_output",
    "check_schemas",
    "code_digest",
    "command_schema",
    "fill_argv",
    "is_code",
    "named_arguments",
    "pin",
    "read_arguments",
    "repaired_name",
    "resolve",
    "rules",
    "values_at",
    "with_enforced",
    "write_lock",
]
