from .casbin import ARGO_CD, import_casbin
from .cases import imported_cases
from .claude_code import import_claude_code
from .names import Names
from .outcome import Imported, ImportedRow, Status

__all__ = [
    "ARGO_CD",
    "Imported",
    "ImportedRow",
    "Names",
    "Status",
    "import_casbin",
    "import_claude_code",
    "imported_cases",
]
