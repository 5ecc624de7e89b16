"""The record of every run: an append-only event store with a hash chain, and the run state computed from it.

store             the events of all runs, in SQLite
hash_chain        each event is sealed to the one before it
run_state         what is known of a run after its events
reducer           how each event changes the run state
run_log           one run: append events, read its state
run_lock          only one process at a time executes a run
conversation      the messages of a run, as its model reads them
content_omission  events without what people, models and tools wrote
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
