"""The pages of the rules.

drafts     changed files of rules that are in force nowhere, with what the analysis says of them
questions  who may do what, and why a call is decided as it is
editor     write a draft, and read its report
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
