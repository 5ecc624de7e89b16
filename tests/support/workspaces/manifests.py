"""Two whole manifests, of a Python tool and of a command, and the reading of them."""

from __future__ import annotations

from remit.workspace.manifest.manifest import Manifest, parse_manifest

FILE = "tools/files/tool.toml"

WHOLE = """\
name = "files"
version = "1.0.0"
owner = "platform@example.com"
summary = "Read and write text files"
source = "python"

[always]
hosts = []
secrets = []
env = ["TZ"]
programs = []

[at_most]
read = ["docs/**", "logs/*.txt"]
write = ["reports/**"]
stores = ["tickets"]

[limits]
wall = "1500ms"
memory = "64MiB"

[actions.read]
summary = "Read one text file"
touches = ["read file:{path}"]
effect = "read"
retry = { attempts = 3, on = ["timeout", "busy"] }
adds_labels = ["untrusted"]
errors = ["not_found", "busy"]

[actions.write]
summary = "Write one text file"
touches = ["write file:{path}", "write store:tickets", "use service:{service}"]
errors = { not_text = "UnicodeDecodeError", full = "" }
"""
COMMAND = """\
name = "grep"
version = "1"
owner = "a@b.c"
summary = "s"
source = "command"
[always]
programs = ["grep"]
[at_most]
read = ["logs/**"]
[actions.find]
summary = "s"
touches = ["read file:{path}"]
effect = "read"
run = ["grep", "-n", "--", "{text}", "{path}"]
"""


def parse(text: str) -> Manifest:
    return parse_manifest(text, file=FILE)
