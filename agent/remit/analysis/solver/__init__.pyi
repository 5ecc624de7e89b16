from .findings import Difference, Finding

__all__ = ["Difference", "Finding"]
