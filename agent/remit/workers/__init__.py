"""Workers: processes that take runs from the queue and drive them, on one machine or on many.

enqueue     starts a run and leaves it to the workers
worker      takes runs that can go on, and drives several at once
rests       when a run that could not go on may be tried again

The queue is no table of its own: see `journal/watch/queue.py`.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
