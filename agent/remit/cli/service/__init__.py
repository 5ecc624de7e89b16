"""The commands about the service."""
