"""The vocabulary that every package shares: calls, events, errors, digests.

calls      a proposed call, the call, its decision, its result
events/    what the record of a run consists of
attempts   what one attempt used, changed and tried to reach
messages   what a model is sent and what it answers
excerpts   the part of a long result that a model reads at once
errors     the errors and the closed set of codes
digests    the digests that bind approvals and results to a call
claims     reservations against limits that all runs share
principals who asks, and how that is known
answers    why an answer is not accepted, and what a grounded one cites
receipts   what the broker saw of each call
renamed    former names of facts and keys, until 0.1.0
threads    long computations, outside of the event loop
parsing/   strict readers of JSON, TOML, YAML, SQL, URLs and names
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
