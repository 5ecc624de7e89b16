from .pool import LiveBounds

__all__ = ["LiveBounds"]
