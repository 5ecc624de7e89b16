"""Confinement: a decided call runs in a room that holds exactly what was decided.

    confine       the face: run, describe, close, the tier that works here
    observe       what one call really does, as the kernel asks about it
    requirements  what a tool asks for, and what its lock holds
    environment   a tool's own packages: locked, installed once, read-only
    profile       what a call may reach, and bubblewrap's command line for it
    warm          one call of a tool that is kept warm
    pool          the warm tools: as many children stand by as there is demand
    standby       one zygote and its children, from the broker's side
    launch        one call in a sandbox of its own
    process       a running sandbox: its command line, its lines, its end
    handover      a sandbox's way to the network: its listener taken over, each call let through it
    exchange      what the broker says to a call's process and hears from it
    opened        what was decided, opened beneath the working folder
    scratch       what was written, put in place
    outcome       one code for each ending
    seccomp       which system calls are left
    probe         break-outs, tried for real
    attempts      which ones, and what each would mean

Inside the sandbox, in this order:

    inside        the first program: lock down
    supervisor    of a warm tool: gives each call its lines, answers what its processes ask, hears of their end
    base          the process that imported the tool, and is copied for each call
    notices       what a filter of system calls asks, and the answers
    rooms         a folder for each call that no other call finds
    onecall       one call's process: narrow, run, answer
    serving       the tool's side: import, types, call
    watch         what it reached for beyond the decision
    outlet        the listener by which alone the network is reached, made and handed out
    kernel        Landlock, filters, openat2 and the like, by number

Tried and dropped:

* one bind mount for each decided file: bubblewrap slows down with their number, and a warm process could not be narrowed;
* READ_DIR on a folder with a denied child: Landlock cannot subtract, so its name would be listed; scratch mirrors it instead;
* scratch on the disk in the full tier: nothing bounds its sum; a sized tmpfs does, and files come back as descriptors;
* socket pairs of every type: an end of a datagram pair can be sent to any unix address;
* waiting for a call's wait status before it is answered: ending a process takes longer than most calls, and tells nothing
  that an answer at the end of its line does not;
* refusing pipes and sockets to the base: a copy that has closed every descriptor, as the kernel saw, inherits none of them;
* a proxy ticket alone: a call that learns another's could use it; the supervisor connects, from an address of the call's own;
* mounting a call's folders from outside: it needs a privilege there, and the first process of the sandbox has one of its own;
* warm tools that start programs: a fork bomb would have to be swept, and with it the children that stand by;
* RLIMIT_AS: it counts what threads only reserve.
"""

from __future__ import annotations

from remit.sandbox.egress import Permit
from remit.sandbox.file_grants import Expansion, expand
from remit.sandbox.outcome import Output
from remit.sandbox.packages import environment
from remit.sandbox.packages.environment import Environment
from remit.sandbox.profile import OWN_FOLDER, Profile, Runtime, Tier, argv, runtime
from remit.sandbox.sandbox import Sandbox, find_bwrap, probe
from remit.sandbox.scratch import Scratch
from remit.sandbox.selfcheck.probe import Check, TierReport
from remit.sandbox.syscall_observer import Observed, Seen
from remit.sandbox.warm.zygote_handle import Bounds

__all__ = [
    "OWN_FOLDER",
    "Bounds",
    "Check",
    "Environment",
    "Expansion",
    "Observed",
    "Output",
    "Permit",
    "Profile",
    "Runtime",
    "Sandbox",
    "Scratch",
    "Seen",
    "Tier",
    "TierReport",
    "argv",
    "environment",
    "expand",
    "find_bwrap",
    "probe",
    "runtime",
]
