"""New tools and agents for a workspace: from a template, a description of a service, a command line, or tools that exist."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
