"""The policy enforcement point: every tool call passes these stages.

broker           the stages in order
decisions        asks the policy about a call
context          the facts that a condition can read
approvals/       approval requests, answers and emergency approvals
execution        runs one decided call, attempt by attempt
attempts         runs one attempt in the sandbox, and records what the tool prints meanwhile
receipt          what the broker saw of each call, and the passages in its result
refusals         the texts of refused calls, which the model reads
effects          executes effects at most once, and tracks unknown outcomes
ports            interface to everything outside of the run: live or recorded
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
