"""The pages of the service: logging in, and one page for each request for approval.

html       templates, headers and forms
login      identity providers and one-time links
approvals  requests for approval
routing    the routes of the pages
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
