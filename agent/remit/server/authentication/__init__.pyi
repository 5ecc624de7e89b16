from .authenticator import Authenticator, NobodyAuthenticated, NotAuthenticated

__all__ = ["Authenticator", "NobodyAuthenticated", "NotAuthenticated"]
