"""The egress proxy: the only way from a sandboxed tool to the network.

    proxy                  the thread, a listener for each sandbox
    call_session           the state of one call: what it may reach and has used, its record
    permissions            the hosts, URLs, ranges and credentials of a tool
    requests               reads the tool's requests, strictly
    connect_tunnel         a CONNECT: TLS passed through, or opened
    forwarder              one request to its server, and the response back
    overrides              header fields that would make another request of it
    responses              writes the responses for the tool
    response_scrubber      removes secrets from responses
    addresses              resolves names, checks addresses, connects
    client_hello           the server name in a TLS ClientHello
    certificate_authority  certificates for opened TLS, of this process only
    connection             one socket, plain or TLS, with timeouts
    errors                 why a request is refused
    exchanges              the answers of test cases, and the requests and responses of a real call

Policy decides on a name. The proxy resolves it once, checks the addresses and connects to a checked one, so that no
second look-up can change the destination.

Tried and dropped:

* a relay process in the sandbox: a listener that is made inside and handed out needs none, and belongs to that sandbox
  alone;
* replacing a placeholder wherever it appears in a request: a body is not the place for a secret, and one header is
  enough;
* forwarding a request while it is read: the server would receive the beginning of a malformed one;
* HTTP/2: no client requires it, and it would mix many requests on one connection.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
