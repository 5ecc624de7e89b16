"""The pages of tools and of the fleet.

figures  numbers of the latest runs: by agent and action, over time, by rule that denied, by tool that failed
plots    small plots as SVG, made by the service
tools    the tools of the workspace, and the permission card of each
fleet    what is held, waits, fails or was lost, what it costs, and which changes take effect step by step
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
