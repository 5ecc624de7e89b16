from .findings import Finding, PolicyDifference

__all__ = ["Finding", "PolicyDifference"]
