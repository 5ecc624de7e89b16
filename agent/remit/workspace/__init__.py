"""A workspace: the folder around `remit.toml`, with its agents, tools, policies and limits, read strictly.

loader           reads every file and reports every problem
definitions      agents, tools, settings, budgets
session          an open workspace with its policy and its journal
bundle           the policy bundle: the files that a run uses, as recorded
identity         the principal of this process, and the user of an account
labels, limits   `policies/labels.toml`, `policies/limits.toml`
prices           `policies/prices.toml`; price_sync writes it from genai-prices
answer_contract  what the answer of an agent must be
settings/        the settings of `remit.toml`
manifest/        `tool.toml`, resources of calls, pins
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
