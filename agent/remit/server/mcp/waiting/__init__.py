"""Calls that wait for people: how a client reads what became of them, polls them and asks its user about them.

recorded   such a call, as the record has it
tasks      such calls as tasks that a client polls
questions  what a client asks its user about one
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
