"""The vocabulary that every package shares: calls, events, errors, digests.

calls      a call, its resources, what was decided, its result
events/    what is recorded of a run
attempts   what one attempt used, changed and reached
messages   what a model is told and answers
errors     the errors and the closed set of codes
digests    what requests and decisions are bound to
claims     reservations against shared limits
renamed    former names of facts and keys, until 0.1.0
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
