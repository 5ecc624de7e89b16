"""A recorded run again: exactly, or with another policy or tool.

replayer    replays a run through the live path
recorded    the recorded world behind the broker's ports
divergence  where a replay leaves the record
partial     replays only some calls
live_reads  with reads from today
minimize    the shortest run that still fails
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
