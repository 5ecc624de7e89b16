from .fleet import FleetPages
from .tools import ToolPages

__all__ = ["FleetPages", "ToolPages"]
