"""Replays a recorded run without effects: as it was, or with another policy or other tools.

replayer    replays a run through the live graph and broker
recorded    answers tools, clock, rules, people and holds from the record, and `recorded_models` the model
divergence  finds the first event that differs from the record
partial     replays a part of a run
live_reads  repeats the recorded reads now, in the sandbox
minimize    finds the smallest run that still fails in the same way
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
