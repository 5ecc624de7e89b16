"""Writes and reads the trace file of each run: OpenTelemetry spans that contain every event, so that the run replays."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
