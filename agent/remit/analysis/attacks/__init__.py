"""What an untrusted text could make an agent do under the rules: each outward action, tried with an attacker's values."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
