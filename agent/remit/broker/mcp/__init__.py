"""Speaks with MCP servers: tools with `source = "mcp"`. The server runs in a live sandbox, or elsewhere; its messages are read here.

messages   one JSON-RPC message, read strictly
fields     the header fields of a request over HTTP
session    begin with a server, list its tools, have it run one
listing    what is pinned of a server, and how it differs from what the server says now
questions  what it asks a person, and the answer
content    the value that a result is for Remit
arguments  the names of files, as a server gets them
speaker    one call, for the sandbox

No MCP library is used: the protocol of a line is small, and a library reads some messages in more than one way.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
