"""A workspace: the folder around `remit.toml`, with its agents, tools, policies and limits, read strictly.

loader       every file, every problem at once
definitions  agents, tools, settings, budgets
session      an open workspace: with its rules and its journal
bundle       the files that a run stands on, and reading them back
identity     which subject an account is
manifest/    `tool.toml`, resource access, pins
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
