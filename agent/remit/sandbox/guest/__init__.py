"""The files that run inside the sandbox. They are mounted there and import nothing of Remit."""
