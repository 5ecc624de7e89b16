"""Injected texts in documents, and an agent that obeys them."""
