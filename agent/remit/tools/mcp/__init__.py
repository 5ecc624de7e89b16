"""What an author does with an MCP server: list its tools for the pin, and import it as a tool.

listing    start a server confined, and list its tools
starting   the files that start a server from locked packages
importing  write its manifest
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
