"""Who sends a request: each way of authentication is an `Authenticator`.

authenticator  the protocol, and the answer of a service that knows no way
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
