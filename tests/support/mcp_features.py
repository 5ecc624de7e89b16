"""What MCP has and Remit does not offer to its clients: by feature, the scenarios of the conformance suite that need it."""

from __future__ import annotations

from typing import Final

SUITE: Final = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
REVISION: Final = "2026-07-28"
# The reasons are in the page "Serve an MCP client", in a table of the same features.
NOT_OFFERED: Final[dict[str, tuple[str, ...]]] = {
    "prompts": (
        "prompts-list",
        "prompts-get-simple",
        "prompts-get-with-args",
        "prompts-get-embedded-resource",
        "prompts-get-with-image",
        "caching",  # its checks of tools pass; it also wants prompts and resources
        "input-required-result-non-tool-request",  # of a prompt
    ),
    "completion of arguments": ("completion-complete",),
    "resources": (
        "resources-list",
        "resources-read-text",
        "resources-read-binary",
        "resources-templates-read",
    ),
    "sampling and roots": (
        "input-required-result-basic-sampling",
        "input-required-result-basic-list-roots",
        "input-required-result-capability-check",
        "input-required-result-multiple-input-requests",
        "server-stateless",  # two of its 28 checks want a tool that needs sampling
    ),
    "questions of a tool to the user": (
        "input-required-result-basic-elicitation",
        "input-required-result-request-state",
        "input-required-result-multi-round",
        "input-required-result-result-type",
        "input-required-result-tampered-state",
    ),
    "tasks of 2025-11-25": (),
}
