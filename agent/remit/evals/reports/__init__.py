"""Shows an evaluation to people and to programs: in a terminal, as a page, as a comment on a pull request, to a CI system.

report     everything that is shown, and whether the evaluation passed
text       for a terminal
markdown   a comment on a pull request
html       one self-contained page with plots
junit      JUnit XML, which CI systems read
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
