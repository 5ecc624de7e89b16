from .enqueue import PRIORITY, QueueFull, enqueue_run
from .worker import DroveRun, Worker

__all__ = ["PRIORITY", "DroveRun", "QueueFull", "Worker", "enqueue_run"]
