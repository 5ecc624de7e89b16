"""Live sandboxes: one for each run and tool, in which the files of a call are mounted for as long as the call runs.

    call      one call: wait for its turn, have its files mounted, run it, take them out
    pool      which sandbox a run has, and those that are started and unused
    served    one call to the server that a sandbox keeps for its run
    lines     the standard streams of such a server
    speaker   what asks a server, and the messages by which it does
    started   one started sandbox, from the broker's side

A program that a call leaves running goes on, and so does what it has written to /tmp: whatever such a sandbox was given counts as
known to each later call in it (`RunState.given`). So no two runs share one. `guest/live.py` is the other side.

Alternatives that were tried and dropped:

* mounting from outside of the sandbox: it needs `unshare` by Python, which Ubuntu's AppArmor refuses; the first process of
  the sandbox has the right in its own namespaces;
* one lasting /work that is emptied after each call: a program that is still running could plant links in it meanwhile; a
  new tmpfs for each call appears as a whole;
* a Landlock rule on all of /work: a program that an earlier call left would see what later calls were given;
* writing to the working folder itself: an undecided file could be created in a writable folder, so writes are copies, and
  the broker takes over the decided names only.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
