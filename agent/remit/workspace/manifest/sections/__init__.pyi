from .authorities import Authority, parse_authorities, with_authorities, wrong_authorities
from .network import (
    AuthorityFile,
    Header,
    HostLine,
    Method,
    Range,
    SecretTable,
    Variable,
    action_network_rules,
    authority_rules,
    network_rules,
)
from .server import PYTHON, ServerTable, ServerTool, filled, server_action_rules, server_rules

__all__ = [
    "PYTHON",
    "Authority",
    "AuthorityFile",
    "Header",
    "HostLine",
    "Method",
    "Range",
    "SecretTable",
    "ServerTable",
    "ServerTool",
    "Variable",
    "action_network_rules",
    "authority_rules",
    "filled",
    "network_rules",
    "parse_authorities",
    "server_action_rules",
    "server_rules",
    "with_authorities",
    "wrong_authorities",
]
