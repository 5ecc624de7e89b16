"""Guardrails for the texts that enter and leave a run: redaction, secrets, content rules, provenance.

redaction      replaces secrets by placeholders
encodings      finds a known secret in every usual encoding
secrets        stores and reads the secrets of tools
content_rules  blocks and redacts texts by the rules of `policies/content.toml`
provenance     what the user and the directory named, and what a text contains beyond that
naming         True if words name a thing, instead of only containing the letters of its name
grounding/     whether the claims of an answer are what the run has read
sanitizer      applies redaction and content rules to one text
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
