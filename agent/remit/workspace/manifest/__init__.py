"""The permission manifest of a tool: reads `tool.toml`, finds the resources of a call, checks the pin.

schema          the keys of `tool.toml`, and the rules between them
sections        the keys of its sections, and the rules between them
manifest        a manifest that was read, and its pin
touches         one line of `touches` or `adds_to_directory`
resolution      the canonical arguments and the resources of one call
undecided       lines that a person still has to decide
pins            `policies/tools.lock`
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
