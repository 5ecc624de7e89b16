"""Runs on this machine: started, resumed, driven by LangGraph.

runner          start and resume
assembly        the parts of a run, made from the workspace and this machine
lifecycle       one run, driven to its end
graph           the LangGraph graph: model, decide, perform
live            clock, rules, holds and limits of now
approvals_wait  waiting for people
models/         the models that think
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
