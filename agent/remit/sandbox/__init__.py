"""Runs one authorized tool call in a sandbox that exposes only the authorized resources.

    sandbox           run, describe, close; which tier works on this machine
    profile           what a call may reach, and bubblewrap's command line for it
    one_shot          one call in a sandbox of its own
    warm/             a pool of tools that are kept imported, with a child for each call
    process           a running sandbox: its command line, its lines, its end
    protocol          what the broker says to the process of a call, and reads from it
    file_grants       the authorized files, opened beneath the working folder
    scratch           written files, put in place
    outcome           one code for each ending
    network_handover  the listener of a sandbox, handed to the proxy
    egress/           the proxy: the only way to the network
    seccomp           which system calls are left
    cgroups, account  limits of the kernel, and the account that tools run as
    syscall_observer  what one call really does
    packages/         the Python packages of a tool
    selfcheck/        `remit doctor`

Inside the sandbox (`guest/`, which imports nothing of Remit), in this order:

    inside        the first program: lock down
    guard         ends what a sandbox without namespaces leaves behind
    supervisor    of a warm tool: gives each call its lines, answers what its processes ask, hears of their end
    base          the process that imported the tool, and is copied for each call
    notices       what a filter of system calls asks, and the answers
    rooms         a folder for each call that no other call finds
    onecall       one call's process: narrow, run, answer
    serving       the tool's side: import, types, call
    watch         what it reached for beyond the decision
    outlet        the listener for the network, made inside and handed out
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

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
