"""Header fields that make a server act on another method, URL or host than those of the request line.

Policy decides on the request line. A request with such a field is refused; the field is not dropped, because the server
would then do something else than the tool meant, such as a POST instead of a PATCH.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import Head

# Where each one is read: [MS-ODATA] 2.2.5.8 (x-http-method); IBM ODM, Slim, Symfony, express method-override, Rack
# (x-http-method-override, x-method-override); Symfony, Zend and IIS URL Rewrite (x-original-url, x-rewrite-url);
# ingress-nginx (x-original-uri, x-original-method); Envoy (x-envoy-original-*); Django and Werkzeug behind proxies
# (x-script-name).
_EXACT: Final = frozenset(
    (
        *(
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-method",
            "x-original-method",
            "http-method",
        ),
        *("x-original-url", "x-original-uri", "x-original-path", "x-original-host", "x-rewrite-url", "x-rewrite-uri"),
        *(
            "x-request-uri",
            "x-request-url",
            "x-path-info",
            "x-script-name",
            "x-override-url",
            "x-proxy-url",
            "x-url-scheme",
        ),
        *("x-host", "x-http-host-override", "x-http-host", "x-real-host", "x-forwarded", "x-envoy-original-path"),
        *("x-envoy-original-method", "x-envoy-original-host", "forwarded", "front-end-https"),
    )
)
# RFC 7239 section 1: `Forwarded`, and the many `X-Forwarded-*` before it: host, path, prefix, method, scheme and
# client.
_BEGINNINGS: Final = ("x-forwarded-", "x-forward-")
# Fields that this proxy writes or drops. Another spelling of them must not reach a server that treats both as the same.
_FRAMING: Final = frozenset(("host", "content-length", "transfer-encoding", "connection", "expect", "te", "upgrade"))
_FOLDED = re.compile("[^a-z0-9]")


def check_overrides(head: Head, own: AbstractSet[bytes]) -> None:
    """Check the fields of a request; `own` are the names, in lower case, that the proxy adds.

    Servers that pass fields on as CGI variables (RFC 3875 section 4.1.18) read `X_HTTP_Method` as `X-HTTP-Method`, so
    every spelling that they treat as the same counts.

    Raises:
        Blocked: `not_decided`: a field may change what the server does, or is another spelling of one in `own`.
    """
    ours = _FRAMING | {_folded(name) for name in own}
    for key, _ in head.fields:
        name = _folded(key)
        shown = key.decode("ascii", "replace")
        if name in _EXACT or name.startswith(_BEGINNINGS):
            raise Blocked("not_decided", f"the header {shown!r} can change the method, URL, host or client; remove it")
        if name in ours and name.encode() != key and key not in own:
            raise Blocked(
                "not_decided", f"the header {shown!r} is another spelling of {name!r}, which the proxy sets; remove it"
            )


def _folded(name: bytes) -> str:
    return _FOLDED.sub("-", name.decode("ascii", "replace").lower())
