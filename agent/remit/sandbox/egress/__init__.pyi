from .call_session import CallSession, Permit, proxy_variables
from .certificate_authority import CertificateAuthority
from .errors import BLOCKED, FINAL
from .exchanges.answers import Answer, Answers, NetworkFailure, RequestPattern, parse_request
from .exchanges.log import LARGEST_KEPT, Exchange, ExchangeLog
from .permissions import (
    SHAPE,
    Credential,
    Exposed,
    Host,
    HostAuthority,
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
    "LARGEST_KEPT",
    "PORT",
    "SHAPE",
    "Answer",
    "Answers",
    "CallSession",
    "CertificateAuthority",
    "Credential",
    "Egress",
    "Exchange",
    "ExchangeLog",
    "Exposed",
    "Host",
    "HostAuthority",
    "Network",
    "NetworkError",
    "NetworkFailure",
    "Permit",
    "ProxyListener",
    "RequestPattern",
    "is_address",
    "parse_credential",
    "parse_host",
    "parse_range",
    "parse_request",
    "proxy_variables",
    "url_permission",
    "url_permissions",
]
