"""Header fields that ask a server to act on another method, URL or host than those of the request line.

What was decided is the request line. Such a field is refused and not dropped: without it the server would do something that
the tool did not mean, as a POST in the place of a PATCH.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import Head

# Where each is read: [MS-ODATA] 2.2.5.8 (x-http-method); IBM ODM, Slim, Symfony, express method-override, Rack
# (x-http-method-override, x-method-override); Symfony, Zend and IIS URL Rewrite (x-original-url, x-rewrite-url); ingress-nginx
# (x-original-uri, x-original-method); Envoy (x-envoy-original-*); Django and Werkzeug behind proxies (x-script-name).
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
# RFC 7239 section 1: `Forwarded`, and the many `X-Forwarded-*` before it: host, path, prefix, method, scheme and client.
_BEGINNINGS: Final = ("x-forwarded-", "x-forward-")
# What this proxy itself writes or leaves out, in any other spelling that a server folds into it.
_FRAMING: Final = frozenset(("host", "content-length", "transfer-encoding", "connection", "expect", "te", "upgrade"))
_FOLDED = re.compile("[^a-z0-9]")


def check_overrides(head: Head, own: AbstractSet[bytes]) -> None:
    """Raise Blocked `not_decided` where a field may change what the server does, or doubles one in `own`.

    Servers that hand fields over as CGI variables (RFC 3875 section 4.1.18) read `X_HTTP_Method` as `X-HTTP-Method`, so every
    spelling that they fold together counts.
    """
    ours = _FRAMING | {_folded(name) for name in own}
    for key, _ in head.fields:
        name = _folded(key)
        shown = key.decode("ascii", "replace")
        if name in _EXACT or name.startswith(_BEGINNINGS):
            what = f"its header {shown!r} names another method, URL, host or client than the request that was decided"
            raise Blocked("not_decided", what)
        if name in ours and name.encode() != key and key not in own:
            raise Blocked(
                "not_decided", f"its header {shown!r} is another spelling of {name!r}, which the proxy writes"
            )


def _folded(name: bytes) -> str:
    return _FOLDED.sub("-", name.decode("ascii", "replace").lower())
