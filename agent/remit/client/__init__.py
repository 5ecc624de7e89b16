"""The Python client: what the command line does, for programs.

remit        `Remit`: runs, calls, decisions, approvals, holds and replays of one workspace
async_remit  `AsyncRemit`: the same for asynchronous code
results      what its methods return
streams      the events of a run while it happens
run_pages    pages of the list of runs that one principal may read
requests     find, approve, reject and revoke requests for approval
review       what a person should know before they answer one
passkeys     passkeys of people, and the approvals that they sign
replays      open the trace of a run, and replay it
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
