from .call_session import CallSession, Permit
from .certificate_authority import CertificateAuthority
from .errors import BLOCKED, FINAL
from .permissions import (
    SHAPE,
    Credential,
    Exposed,
    Host,
    Network,
    NetworkError,
    is_address,
    parse_credential,
    parse_host,
    parse_range,
    url_permission,
    url_permissions,
)
from .proxy import PORT, Egress, ProxyListener

__all__ = [
    "BLOCKED",
    "FINAL",
    "PORT",
    "SHAPE",
    "CallSession",
    "CertificateAuthority",
    "Credential",
    "Egress",
    "Exposed",
    "Host",
    "Network",
    "NetworkError",
    "Permit",
    "ProxyListener",
    "is_address",
    "parse_credential",
    "parse_host",
    "parse_range",
    "url_permission",
    "url_permissions",
]
