"""HTTP as the service speaks it, whatever a route does.

route        a row of the table of routes
application  the ASGI application of a table: authentication, limits, errors
connections  head and body of an answer in one packet
bodies       a body or a query, parsed strictly
answers      results as JSON, and the HTTP status of each code
in_time      the longest time of a request
openapi      the OpenAPI 3.1 document of a table
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
