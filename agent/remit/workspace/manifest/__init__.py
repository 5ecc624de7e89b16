"""The permission manifest of a tool: `tool.toml` read, its `touches` compiled, its pin checked."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
