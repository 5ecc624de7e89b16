"""Lets another model, prompt, policy or tool go on from a step of a recorded run, with nothing landing.

versions        which recorded answer a call may get: its request, and the effects that came before it
seed_copy       a copy of the seed, in which tools run confined
executor        answers each call from the record, from the copy, or by assumption
circumstances   clock, policy and people: as recorded while the run follows the record
turns           the turns of the model: recorded ones, or those of the candidate
playing         plays a recorded run from a step
evaluated       plays a scenario whose world is a recorded run
row             writes a recorded run as a scenario
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
