"""The events of a run. Everything else that Remit knows of a run is computed from them.

An event is written once and never changed. `key` identifies it in its run: the journal refuses a second event with the same
key, so that two workers on one run cannot both begin the same attempt.

event       the fields that every event has
runs        the run and its model
calls       a call: decided, attempted, answered
approvals   approvals of calls; approval_state is the state of one request after some of its events
passkeys    passkeys of people, and what they sign
acts        acts of people with Remit itself, for which the rules ask a second person
operations  holds, alerts and circuit breakers
notifications  messages to people, and whether they arrived
rollouts    rollouts, and what their candidates would have decided
evaluations evaluations of agents, and the grades of their runs
recorded    the union of all events, and an event in the hash chain
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
