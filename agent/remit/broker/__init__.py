"""The policy enforcement point: every tool call passes here, stage by stage.

broker           the stages in order
context          what a condition may read of a call
approvals/       people: requests, grants, emergencies
execution        one decided call, attempt by attempt
attempts         one attempt in the sandbox
effects          effects at most once, and those in doubt
ports            what a run reads of the world: live or recorded
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
