"""Remit for Inspect AI: a solver, an approver, and evaluations of Remit as logs that Inspect reads."""

from importlib.util import find_spec

from remit._face import face

if find_spec("inspect_ai") is None:
    raise ImportError("remit.inspect_ai needs the package inspect-ai: pip install 'remit[inspect]'")

__getattr__, __dir__, __all__ = face(__name__, __file__)
