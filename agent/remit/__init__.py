"""Remit: a policy broker and sandbox for the tool calls of AI agents."""

__version__ = "0.1.0"
