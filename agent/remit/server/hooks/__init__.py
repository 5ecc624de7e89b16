"""Hooks of coding agents: each call of a native tool is decided and recorded here, and carried out by the coding agent.

`endpoint` reads the events, `naming` makes calls of native tools, `conversations` has the sessions, `hooked_run` one run of them.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
