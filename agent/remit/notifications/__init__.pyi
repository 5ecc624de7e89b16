from .deliveries import Delivery
from .notifier import Notifier
from .webhook import signature

__all__ = ["Delivery", "Notifier", "signature"]
