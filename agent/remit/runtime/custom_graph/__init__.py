"""The graph of an agent's author (`graph = "shop:build"`), which drives the runs of the agent in place of Remit's own loop.

parts       `GraphParts`: what the author's function gets
messages    the messages and tools of LangChain as Remit's, and back
turns       one execution of the graph: its turns of the model and its calls, each at a step of the record
driver      `drive`: executes the graph again and again, until the run ends or nobody answers what it waits for
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
