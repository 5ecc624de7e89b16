"""Who sends a request: each way of authentication is an `Authenticator`.

authenticator  the protocol
access         bearer tokens, API keys and sessions of browsers
tokens         tokens of identity providers and of applications are checked
claims         their claims become a principal
providers      identity providers: their addresses and their keys
keys           public keys, and the signatures that they check
fetching       the HTTP client for them
api_keys       keys of services
sessions       people who have logged in
refusals       why a request is refused, and the record of it
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
