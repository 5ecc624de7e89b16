from .manifests import Sentence
from .permissions import Authority, authority
from .policy import difference
from .revisions import live, open_source
from .witnesses import counterpart, facts_of, facts_text, rule_text, verify

__all__ = [
    "Authority",
    "Sentence",
    "authority",
    "counterpart",
    "difference",
    "facts_of",
    "facts_text",
    "live",
    "open_source",
    "rule_text",
    "verify",
]
