from .access import Access, is_own_site
from .authenticator import Authenticator, NotAuthenticated
from .fetching import Fetch, ProviderFailed, fetch
from .providers import Provider
from .refusals import AccessDenied
from .sessions import BrowserSession, Expiring, Sessions
from .tokens import Trust

__all__ = [
    "Access",
    "AccessDenied",
    "Authenticator",
    "BrowserSession",
    "Expiring",
    "Fetch",
    "NotAuthenticated",
    "Provider",
    "ProviderFailed",
    "Sessions",
    "Trust",
    "fetch",
    "is_own_site",
]
