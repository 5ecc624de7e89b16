"""What guards the text that goes in and out: redaction, secrets, content rules, provenance.

redaction      replaces secrets by placeholders
encodings      finds a known secret in every usual encoding
secrets        where the secrets of tools are kept
content_rules  what may not pass: `policies/content.toml`
provenance     what the user and the directory named
sanitizer      all of it, applied to one text
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
