from .importing import Elsewhere, ImportedServer, import_remote, import_server
from .listing import listed_server, server_schemas
from .starting import name_of_server

__all__ = [
    "Elsewhere",
    "ImportedServer",
    "import_remote",
    "import_server",
    "listed_server",
    "name_of_server",
    "server_schemas",
]
