from .answer_contract import Answer
from .bundle import CODE_DIGESTS, IMPERSONATE, Rulebook, files_of, open_rulebook, read_digests, tool_specs, vocabulary
from .definitions import RESERVED, Agent, Budget, Casbin, LookUp, Price, Settings, Tool, Workspace
from .file_schema import MARKER
from .files import find_workspace, read_code
from .identity import os_account, subject_of
from .labels import labels_of
from .limits import LIMITS, Limit, Measure, limit_claims, limit_refusal
from .loader import load_files, load_workspace
from .session import House, load_rooms, open_house, policy_files
from .template import write_starter

__all__ = [
    "CODE_DIGESTS",
    "IMPERSONATE",
    "LIMITS",
    "MARKER",
    "RESERVED",
    "Agent",
    "Answer",
    "Budget",
    "Casbin",
    "House",
    "Limit",
    "LookUp",
    "Measure",
    "Price",
    "Rulebook",
    "Settings",
    "Tool",
    "Workspace",
    "files_of",
    "find_workspace",
    "labels_of",
    "limit_claims",
    "limit_refusal",
    "load_files",
    "load_rooms",
    "load_workspace",
    "open_house",
    "open_rulebook",
    "os_account",
    "policy_files",
    "read_code",
    "read_digests",
    "subject_of",
    "tool_specs",
    "vocabulary",
    "write_starter",
]
