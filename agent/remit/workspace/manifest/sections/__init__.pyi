from .network import Header, HostLine, Method, Range, SecretTable, Variable, action_network_rules, network_rules
from .server import PYTHON, ServerTable, ServerTool, filled, server_action_rules, server_rules

__all__ = [
    "PYTHON",
    "Header",
    "HostLine",
    "Method",
    "Range",
    "SecretTable",
    "ServerTable",
    "ServerTool",
    "Variable",
    "action_network_rules",
    "filled",
    "network_rules",
    "server_action_rules",
    "server_rules",
]
