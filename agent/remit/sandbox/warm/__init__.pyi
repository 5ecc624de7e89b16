from .zygote_handle import Bounds

__all__ = ["Bounds"]
