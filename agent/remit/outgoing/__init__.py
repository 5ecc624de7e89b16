"""HTTP requests of the trusted side: to models, identity providers, webhooks, and for the wheels of packages.

client  makes a client and reads an answer, both with bounds; the only module that knows httpx

Tools make their requests themselves, through the egress proxy of the sandbox.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
