"""The record of every run: an append-only event store with a hash chain, and the run state computed from it.

store             the events of all runs, with the projections that lists and checks read
opening           open the journal: a SQLite file, PostgreSQL, or memory
run_log           one run: append events, read its state
live_record       one run that this process drives: events are written together, before any effect
lease             only one process at a time extends the chain of a run
run_list          the list of runs
projections       the rows that follow from events
limits            what was taken from shared limits
hash_chain        each event is sealed to the one before it
run_state         what is known of a run after its events
reducer           how each event changes the run state
conversation      the messages of a run, as its model reads them
content_omission  events without what people, models and tools wrote
storage/          tables, SQLite and PostgreSQL, and what wakes tasks that wait for another process
upkeep/           seal, erase and delete runs, check the projections
watch/            the state of the workspace as numbers, and the cursor of the audit stream
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
