from .middleware import Remit

__all__ = ["Remit"]
