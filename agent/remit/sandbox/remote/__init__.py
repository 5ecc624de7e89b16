"""Servers that run elsewhere: a call speaks with them over HTTP, through the egress proxy. Nothing of them runs on this machine.

    call         one call: its session at the proxy, its time, its result
    http_lines   messages to a server and from it, over the streamable HTTP transport of MCP
    sent_events  the events of a response
    sessions     what each run knows of its servers

The server is asked in the second phase of a call only: before its attempt is recorded, a call has no permit and no secret.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
