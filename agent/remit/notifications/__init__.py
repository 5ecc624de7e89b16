"""Notifications: one sentence and a link to people, where an approval waits, a run is lost, an effect is in doubt or a hold is set.

A notification never has arguments or content. The journal is the queue and the memory: a process that ends loses none, and of several
services that watch one journal one sends each. Each arrives at least once: a process that is killed after it has sent, and before it
has recorded that, is followed by a second message with the same id.

subjects    what people should know of, read from the journal
messages    the sentence and the link
webhook     signed requests, as Standard Webhooks defines them
chat        the services that apprise knows
deliveries  who sends what, when again, and what is recorded
notifier    the loop
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
