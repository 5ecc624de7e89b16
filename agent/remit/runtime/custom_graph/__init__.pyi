from .driver import drive
from .parts import GraphParts

__all__ = ["GraphParts", "drive"]
