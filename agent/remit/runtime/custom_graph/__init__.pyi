from .driver import drive
from .parts import GraphParts, OfferedAction

__all__ = ["GraphParts", "OfferedAction", "drive"]
