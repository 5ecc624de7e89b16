"""Strict readers, after which each value has exactly one spelling.

Policy, approvals, the sandbox and the trace compare texts. Two spellings of one thing become the same text here, or are
refused.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
