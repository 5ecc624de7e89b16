"""The record of every run: an append-only event store with a hash chain, and the state folded from it.

store         the events, in SQLite
hash_chain    each event sealed with the one before
run_state     what is known of a run after its events
reducer       how each event changes that
run_log       one run, appended to and read
run_lock      one process at a time drives a run
conversation  the messages of a run, as its model reads them
withholding   an event without its content
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
