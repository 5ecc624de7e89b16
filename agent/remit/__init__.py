"""Remit: the place where an AI agent's tool calls become real."""

__version__ = "0.1.0"
