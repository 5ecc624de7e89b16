"""Starts, resumes and drives runs on this machine, with LangGraph.

runner          start a run and resume it
assembly        build the parts of a run from the workspace and this machine
lifecycle       drive one run to its end, or to where it waits
graph           what is done in a step: think, decide, act; and the driver of a single call
loop            the steps of a run as a LangGraph graph
directory       the calls that Remit makes before the model's first turn
live            the live ports: clock, rules, holds, circuit breakers, shared limits
approvals_wait  wait for approvals
one_call        `remit call`, and its dry run
memory_run      run an agent in memory, with another executor
retention       seal finished runs, delete old ones
erasure         erase what runs recorded, on request
models/         the models: scripts, and models of providers
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
