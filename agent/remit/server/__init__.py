"""The HTTP service: what the command line and the Python client do, for many people and programs at once.

service         the workspaces of a process, one for each tenant, and the runs that it drives
routes          the one table of routes; the application and OpenAPI are made from it
http            requests, strict bodies, answers, pages and streams of events
handlers        what each route does, by `AsyncRemit`
authentication  who sends a request
pages           the console: what people see and do with a browser
apart           commands that a page needs, in processes with limits
serving         listens until SIGTERM or SIGINT
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
