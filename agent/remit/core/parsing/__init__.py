"""Strict readers: one value, one spelling.

Policy, approvals, the sandbox and the trace compare texts. Two spellings of one thing become one here, or are refused.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
