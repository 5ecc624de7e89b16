from .probe import TierReport

__all__ = ["TierReport"]
