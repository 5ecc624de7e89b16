"""Commands that a running service carries out for the accounts of this machine, over a Unix socket.

forwarded  which commands, with which options
peers      the folder of the socket, and who is at its other end
asking     the side of the command: only the standard library, because it has to be fast
answering  the side of the service: one process, which gives each command to a process of its account
executing  the process that executes the commands of one account, one after another

The process of a command has the open files of the terminal, so it prints what the same command prints by itself. It reads the definition of
the workspace from disk, as every command does. It acts for the account that the kernel names.
"""
