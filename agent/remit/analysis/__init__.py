"""Analysis of rules beyond single decisions: comparison, lint, mutation testing, queries, backtest and suggestions."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
