"""The console: the pages of the service.

assets     the style, the scripts and the catalogue of strings
html       templates, headers and forms
forms      values of forms
live       pages that follow the journal
login      identity providers and one-time links
requests   what a person sees of a request for approval
approvals  requests for approval, and their answers
passkeys   passkeys of people, and what they sign
runs       the list of runs, and one run: its timeline, and what a person may do with it
policy     questions about the rules, and drafts of changes with their report
fleet      tools, and the state of the fleet
routing    the routes of the pages
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
