"""The on-call engineer's copy of every run: OpenTelemetry spans in a file that replays."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
