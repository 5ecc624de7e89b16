"""Sections of a `tool.toml`: the keys of each, and the rules between them.

network      hosts, address ranges and secrets
authorities  the private certificate authorities of hosts
server       what starts an MCP server, and its tools
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
