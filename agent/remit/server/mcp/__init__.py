"""The broker for MCP clients: the tools of an agent, whose calls are decided, confined and recorded like all others.

conversation  the runs of one client, one after the other
client_run    one run that a client drives
tools         the tools that a principal is offered
contents      the images, sounds and files of a result
served        what one client is served
calls         a call of a tool: its result, its progress, and how people approve it
waiting       calls that wait for people: as the record has them, as tasks, and as questions to the user
changes       reports of changes of the list of tools
protocol      the server of the MCP library with these handlers
messages      messages, parsed strictly before the library sees them
stdio         one client over standard input and output
http          clients over HTTP, as routes of the service
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
