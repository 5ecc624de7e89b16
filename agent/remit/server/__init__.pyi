from .authentication import Access, Authenticator, NotAuthenticated
from .http.application import build_app
from .http.local import LocalSocket
from .http.openapi import openapi
from .http.route import Asked, Route
from .routes import ROUTES
from .service import Service
from .serving import serve
from .workspaces import ServedWorkspace

__all__ = [
    "ROUTES",
    "Access",
    "Asked",
    "Authenticator",
    "LocalSocket",
    "NotAuthenticated",
    "Route",
    "ServedWorkspace",
    "Service",
    "build_app",
    "openapi",
    "serve",
]
