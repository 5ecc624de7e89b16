"""The way out: the egress proxy, through which alone a confined tool reaches the network.

    proxy       the face: a thread, a door for each sandbox, a ticket for each call
    ticket      what one call may reach, has used, and did
    request     what the tool asks, read whole and strictly
    tunnel      a CONNECT: passed on unopened, or opened
    reply       the answer to the tool, written anew
    forward     one request to its server, and the answer back
    address     names, addresses and their classes; dialling
    hello       the name in a TLS hello
    authority   certificates of this process alone
    scrub       secrets struck out of answers
    wire        bytes in, bytes out
    verdict     why not

What was decided is a name; the address that is dialled is one that was judged here, so no second look-up can change it.

Tried and dropped:

* a relay process in the sandbox: a listener that is made inside and handed out needs none, and cannot be mistaken for another's;
* secrets put in wherever a stand-in is found: a body is no place to look for one, and a header of the manifest is enough;
* passing a request on while it is read: a broken body would have reached the server;
* HTTP/2: no client insists on it, and one connection would carry many requests at once.
"""

from __future__ import annotations

from remit.sandbox.egress.addresses import Resolver
from remit.sandbox.egress.call_session import Permit, Ticket
from remit.sandbox.egress.errors import BLOCKED, FINAL
from remit.sandbox.egress.proxy import PORT, Door, Egress

__all__ = ["BLOCKED", "FINAL", "PORT", "Door", "Egress", "Permit", "Resolver", "Ticket"]
