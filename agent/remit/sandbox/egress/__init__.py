"""The egress proxy: the only way from a confined tool to the network.

    proxy                  a thread, an endpoint for each sandbox, a session for each call
    permissions            the hosts, ranges and credentials that a tool may use
    call_session           what one call may reach, has used, and did
    requests               what the tool asks, read whole and strictly
    connect_tunnel         a CONNECT: passed on unopened, or opened
    responses              the answer to the tool, written again
    forwarder              one request to its server, and the answer back
    addresses              names, addresses and their classes; dialling
    client_hello           the name in a TLS ClientHello
    certificate_authority  certificates of this process alone
    response_scrubber      secrets removed from answers
    connection             bytes in, bytes out
    errors                 why a request is refused

What was decided is a name; the address that is dialled is one that was judged here, so no second look-up can change it.

Tried and dropped:

* a relay process in the sandbox: a listener that is made inside and handed out needs none, and cannot be mistaken for another's;
* secrets put in wherever a stand-in is found: a body is no place to look for one, and a header of the manifest is enough;
* passing a request on while it is read: a broken body would have reached the server;
* HTTP/2: no client insists on it, and one connection would carry many requests at once.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
