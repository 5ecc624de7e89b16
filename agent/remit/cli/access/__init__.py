"""Commands that say who may use the service."""
