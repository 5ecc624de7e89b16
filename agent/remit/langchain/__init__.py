"""Remit for agents of LangChain and graphs of LangGraph: one middleware, or a wrapper for a `ToolNode`."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
