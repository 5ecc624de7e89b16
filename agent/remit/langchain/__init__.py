"""Remit for LangChain agents and LangGraph graphs: one middleware, or a wrapper for the calls of a `ToolNode`."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
