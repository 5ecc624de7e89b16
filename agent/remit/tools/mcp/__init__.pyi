from .listing import listed_server, server_schemas

__all__ = ["listed_server", "server_schemas"]
