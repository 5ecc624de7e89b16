"""Runs one authorized tool call in a sandbox that exposes only the authorized resources.

    sandbox           open, run, describe, close; which tier works on this machine
    profile           what a call may access, and the bubblewrap command line for it
    one_shot          one call in a sandbox of its own
    warm/             a pool of tools that stay imported, with a child process for each call
    live/             one sandbox for the calls of a run to a command tool, with the files of each call mounted while it runs
    remote/           calls to servers that run elsewhere, over HTTP
    process           a running sandbox: its command line, its pipes and sockets, its end
    protocol          the frames between the broker and the process of a call
    file_grants       the authorized files, opened beneath the working folder
    scratch           written files, moved to their place
    outcome           one code for each way that a call can end
    network_handover  the network listener of a sandbox, handed to the proxy
    egress/           the proxy: the only way to the network
    seccomp           the filters of system calls
    cgroups, account  limits of the kernel, and the account that tools run as
    syscall_observer  records what one call really does
    packages/         the Python packages of a tool
    selfcheck/        `remit doctor`

Inside the sandbox (`guest/`, which imports nothing of Remit), in this order:

    inside           the first program: locks the sandbox down
    guard            ends the processes that a sandbox without namespaces leaves behind
    live             of a live sandbox: mounts the files of each call, starts it or has the server run it, takes them out
    supervisor       of a warm tool: gives each call to a child, answers the filter's notifications, reports ends
    base             the process that imported the tool, and is forked for each call
    notices          seccomp user notifications, and the answers to them
    scratch_folders  a scratch folder for each call, which no other call can find
    onecall          the process of one call: narrow the rights, decode, run the tool, answer
    decoding         the annotations of a function: its schema, its arguments, its result
    conformance      examples of arguments and results, tried on the annotations without a call
    serving          import the tool, report what it raises, start its programs
    watch            records attempts to access what was not granted
    outlet           the network listener, made inside and handed out
    kernel           system calls without a Python function: Landlock, filters, openat2

Alternatives that were tried and dropped:

* one bind mount for each granted file: bubblewrap slows down with their number, and a warm process could not be
  narrowed;
* READ_DIR on a folder with a denied file: Landlock cannot subtract, so the name would be listed; scratch mirrors the
  folder instead;
* scratch on the disk in the full tier: nothing limits its total size; a tmpfs with a size does, and files come back as
  descriptors;
* socket pairs of every type: an end of a datagram pair can be sent to any unix address;
* waiting for a call's exit status before its answer is used: ending a process takes longer than most calls, and the
  status adds nothing to a complete answer that is followed by the end of the stream;
* refusing pipes and sockets to the base: a copy that has closed every descriptor, as the kernel reported, inherits none
  of them;
* a proxy ticket alone: a call that learns another call's ticket could use it; the supervisor connects from an address
  of the call;
* mounting a call's folders from outside: it needs a privilege there, and the first process of the sandbox has one of
  its own;
* warm Python tools that start programs: a fork bomb would have to be killed, and with it the idle children;
* decoding in a process of its own: its objects cannot be passed on, and decoding twice runs each validator with the rights
  of the call;
* RLIMIT_AS: it counts what threads only reserve.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
