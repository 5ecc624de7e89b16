"""Pages of spans, metrics and environment variables.

The code gives names, kinds and units. The meaning of an attribute and of a variable stands here only;
`tests/docs/test_reference.py` compares both lists with the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from generator.markdown import code, one_of, table
from remit.runtime.models.langchain import PROVIDERS
from remit.runtime.models.wire.chat_completions import ADDRESSES, KEY, OPTIONAL_HEADERS
from remit.sandbox.cgroups import VARIABLE
from remit.tracing.attributes import CONTENT
from remit.tracing.metrics import GAUGES, INSTRUMENTS, OF_SERVICE
from remit.tracing.otel_metrics import SECONDS, TOKENS
from remit.tracing.otel_spans import CAPTURE, KIND, KINDS
from remit.tracing.otlp import RESOURCE, SCOPE


def pages() -> dict[str, str]:
    """The three pages."""
    return {
        "reference/spans.md": _spans(),
        "reference/metrics.md": _metrics(),
        "reference/environment.md": _environment(),
    }


# -- spans -------------------------------------------------------------------------------------------------------------

_PLACE: Final = {
    "remit.step": ("int", "the turn of the model, from 0"),
    "remit.index": ("int", "the call in the turn, from 0"),
}
_RUN: Final = ("string", "the run id, which is the trace id too")
_ERROR: Final = ("string", "the error code, or `_OTHER`; only on a span that failed")
# The spans in the order of the tree, each with its attributes: type and meaning.
SPANS: Final[Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]]] = {
    "invoke_agent": (
        "The root: one run. Its name ends with the agent's: `invoke_agent triage`.",
        {
            "gen_ai.operation.name": ("string", "`invoke_agent`"),
            "gen_ai.conversation.id": _RUN,
            "gen_ai.agent.name": ("string", "the agent"),
            "gen_ai.provider.name": ("string", "the provider of the model, or `script`"),
            "gen_ai.request.model": ("string", "the model"),
            "gen_ai.system_instructions": ("string", "the prompt, as JSON"),
            "gen_ai.input.messages": ("string", "the task, as JSON"),
            "gen_ai.output.messages": ("string", "the answer, as JSON"),
            "enduser.id": ("string", "the user for whom the agent acts: `user:ann`"),
            "remit.account": (
                "string",
                "the account that started the run: of the operating system, or the `sub` of a token",
            ),
            "remit.authenticated": ("string", "how that account was authenticated: `os_account`, `oidc` …"),
            "remit.tenant": ("string", "the tenant of the workspace"),
            "remit.actions": ("string[]", "the actions that the model is offered"),
            "remit.confinement": ("string", "`full`, `landlock`, `none` or `unavailable`"),
            "remit.env": ("string", "the environment of remit.toml"),
            "remit.folder": ("string", "the working folder, relative to the workspace"),
            "remit.policy.digest": ("string", "the digest of the rules"),
            "remit.bundle": ("string", "the digest of the policy bundle"),
            "remit.scripted": ("boolean", "true if the model is a script"),
            "remit.version": ("string", "the version of Remit"),
            "remit.evaluation": ("string", "the evaluation that the run belongs to; absent for a live run"),
            "remit.observe": ("string", "until when decisions on which actions are not enforced; absent if all are"),
            "remit.scope": ("string", "the scope of the run, as JSON; absent without one"),
            "remit.rollout": ("string", "the rollout of its agent when it began; absent without one"),
            "remit.arm": ("string", "`candidate` if the run has the candidate of that rollout, else `live`"),
            "remit.emergency.reviews": (
                "string[]",
                "the reviews of emergency approvals, one line each; absent without one",
            ),
            "remit.resumed": ("int", "how often the run was resumed; absent if never"),
            "remit.accepted": (
                "string[]",
                "what has changed of the definition with which it was resumed last; absent if nothing",
            ),
            "remit.import": ("string", "the name of the import; absent unless another tool executed the run"),
            "remit.import.tool": ("string", "what wrote the spans of the imported run"),
            "remit.import.trace": ("string", "the id of the imported trace in the other tool"),
            "remit.conversation": (
                "string",
                "the id of the conversation that the run is a part of; absent for a run on its own",
            ),
            "remit.conversation.number": ("int", "which run of the conversation it is, from 1; absent likewise"),
            "remit.driver": (
                "string",
                "the framework whose graph drives the run: `langgraph`; absent for Remit's own graph",
            ),
            "remit.context.reduced": ("int", "how often the conversation was shortened; absent if never"),
            "remit.outcome": ("string", "the outcome; absent while the run goes on"),
            "error.type": _ERROR,
        },
    ),
    "chat": (
        "One request to the model. Its name ends with the model's. A step has a further request after each failure.",
        {
            "gen_ai.operation.name": ("string", "`chat`"),
            "gen_ai.conversation.id": _RUN,
            "remit.step": _PLACE["remit.step"],
            "gen_ai.provider.name": ("string", "the provider of the model, or `script`"),
            "gen_ai.request.model": ("string", "the model that was requested"),
            "gen_ai.request.temperature": (
                "double",
                "the setting of agent.toml, as all that follow; absent if it is not set",
            ),
            "gen_ai.request.top_p": ("double", "the setting `top_p`"),
            "gen_ai.request.top_k": ("int", "the setting `top_k`"),
            "gen_ai.request.max_tokens": ("int", "the setting `max_tokens`"),
            "gen_ai.request.seed": ("int", "the setting `seed`"),
            "gen_ai.request.stop_sequences": ("string[]", "the setting `stop`"),
            "remit.request.reasoning_effort": ("string", "the setting `reasoning_effort`"),
            "remit.request.extra": ("string", "the setting `extra`, as JSON"),
            "gen_ai.response.model": ("string", "the model that answered"),
            "gen_ai.response.finish_reasons": ("string[]", "why the turn ended, as the provider says it"),
            "gen_ai.output.messages": ("string", "the text and the proposed calls, as JSON"),
            "gen_ai.usage.input_tokens": ("int", "tokens that the model read; absent if the provider does not say"),
            "gen_ai.usage.output_tokens": ("int", "tokens that the model wrote; absent if the provider does not say"),
            "gen_ai.usage.cache_read.input_tokens": (
                "int",
                "input tokens read from the provider's cache; absent if not known",
            ),
            "gen_ai.usage.cache_creation.input_tokens": (
                "int",
                "input tokens written to that cache; absent if not known",
            ),
            "gen_ai.usage.reasoning.output_tokens": ("int", "output tokens of reasoning; absent if not known"),
            "remit.usage.cache_write_1h": (
                "int",
                "tokens of cache_creation that stay for an hour; absent if not known",
            ),
            "remit.cost": (
                "string",
                "the price of the turn, in the currency of policies/prices.toml; absent if not known",
            ),
            "remit.input_digest": ("string", "the digest of the conversation so far and of the tools offered"),
            "remit.model.passing": (
                "boolean",
                "true if the same request may succeed later; only if the request failed",
            ),
            "remit.model.again_at": (
                "int",
                "when the run asks again, in Unix nanoseconds; only if the request failed and the run goes on",
            ),
            "error.type": _ERROR,
        },
    ),
    "execute_tool": (
        "One call, also one that was refused. Its name ends with the action's: `execute_tool files.read`.",
        {
            **_PLACE,
            "gen_ai.operation.name": ("string", "`execute_tool`"),
            "gen_ai.conversation.id": _RUN,
            "gen_ai.tool.call.id": ("string", "the id of the call: `call_STEP_INDEX`"),
            "gen_ai.tool.type": ("string", "`function`"),
            "gen_ai.tool.name": ("string", "the action"),
            "gen_ai.tool.call.arguments": (
                "string",
                "the canonical arguments, as JSON; of a call that could not be parsed, its text",
            ),
            "gen_ai.tool.call.result": ("string", "the result that the model reads, as JSON"),
            "remit.attempts": ("int", "how many attempts began"),
            "remit.effect": ("string", "the effect of the action"),
            "remit.request.digest": ("string", "the digest of the call"),
            "remit.resources": ("string[]", "every resource of the call"),
            "remit.resources.left_out": (
                "string[]",
                "the stores of a group that no rule permits to the call; absent for other actions",
            ),
            "remit.verdict": ("string", "`allow`, `ask` or `deny`"),
            "remit.labels": ("string[]", "the labels that the result adds"),
            "remit.labels.removed": ("string[]", "the labels that the result removes; absent if none"),
            "remit.directory.added": ("string[]", "resources that the result adds to the directory; absent if none"),
            "error.type": _ERROR,
        },
    ),
    "remit.decide": (
        "One decision about a call.",
        {
            **_PLACE,
            "remit.round": ("int", "which decision of the call it is, from 0"),
            "remit.enforced": ("boolean", "false: the call of an observed agent is carried out whatever is decided"),
            "remit.repairs": ("string[]", "how the call differs from the one that the model wrote"),
            "remit.verdict": ("string", "`allow`, `ask` or `deny`"),
            "remit.reason": ("string", "why, as one word"),
            "remit.message": ("string", "why, in words"),
            "remit.rules": ("string[]", "the deciding rules, each with its file and line"),
            "remit.policy.digest": ("string", "the digest of the rules"),
            "remit.decision.digest": ("string", "the digest of the decision, to which approvals belong"),
            "error.type": _ERROR,
        },
    ),
    "remit.approval": (
        "One request for approval, with its answers.",
        {
            **_PLACE,
            "remit.approval.missing": ("string[]", "the approvals that are needed: `role:lead x1`"),
            "remit.approval.summary": ("string", "the text that approvers read"),
            "remit.decision.digest": ("string", "the digest of the decision, to which the answers belong"),
            "remit.approval.granted": ("string[]", "who approved, in which role"),
            "remit.approval.scripted": ("boolean", "true if a script approved in place of a person"),
            "remit.approval.answers": (
                "string[]",
                "the answers of people, and what became void, one line each, when the span ended",
            ),
            "remit.approval.state": (
                "string",
                "the state of the request: asked, granted, revoked, void, rejected, expired, replaced, answered or used",
            ),
            "remit.approval.refused": ("string[]", "whose answer Remit refused"),
        },
    ),
    "remit.attempt": (
        "One attempt to carry the call out.",
        {
            **_PLACE,
            "remit.attempt": ("int", "the number of the attempt, from 1"),
            "remit.confinement": ("string", "the confinement of the tool"),
            "remit.profile.digest": ("string", "the digest of what the sandbox exposed"),
            "remit.sandbox.given": (
                "string[]",
                "the labels of everything that the live sandbox of the run and tool was ever given, with this call; absent without one",
            ),
            "remit.cached": (
                "string",
                "the earlier call whose recorded result answers this one; absent if the tool ran",
            ),
            "remit.landed": ("string", "`landed`, `not_landed`, `unknown` or `none`"),
            "remit.changes": ("string[]", "files that were written or removed"),
            "remit.connections": ("string[]", "requests through the egress proxy, one line each"),
            "remit.refused": ("string[]", "what the sandbox did not open"),
            "remit.labels": ("string[]", "labels of an error that the model reads; absent if none"),
            "remit.limit": ("string", "the limit that ended the attempt; absent if none"),
            "remit.limit.most": ("double", "the value of that limit"),
            "remit.spent.wall_s": ("double", "wall-clock time in seconds"),
            "remit.spent.cpu_s": ("double", "processor time in seconds"),
            "remit.spent.memory_bytes": ("int", "peak memory in bytes"),
            "remit.spent.output_bytes": ("int", "size of the result in bytes"),
            "remit.attempt.questions": (
                "string[]",
                "what the tool asked a person, and the answers; absent if it asked nothing",
            ),
            "remit.attempt.stderr": ("string", "what the tool printed; absent if nothing"),
            "error.type": _ERROR,
        },
    ),
    "remit.bundle": ("Only in an exported file: the files of the policy bundle, one span event each.", {}),
}
ANY_SPAN: Final = {"remit.unfinished": ("boolean", "true on a span that has not ended")}
SPAN_EVENTS: Final = {
    "remit.event.seq": ("int", "the position of the event in its run, from 0"),
    "remit.event.at": ("int", "Unix nanoseconds"),
    "remit.event.key": ("string", "the key of the event, unique in its run"),
    "remit.event.prev": ("string", "the hash of the event before"),
    "remit.event.hash": ("string", "the hash of the event"),
    "remit.event.payload_digest": ("string", "the salted digest of the body"),
    "remit.event.salt": ("string", "the salt; absent if the body was erased"),
    "remit.event.body": ("string", "the event, as JSON; absent if it was erased"),
}
OBJECT_EVENTS: Final = {
    "remit.object.digest": ("string", "the digest of the file"),
    "remit.object.path": ("string", "its path in the workspace; empty for the index"),
    "remit.object.body": ("string", "its content, if it is UTF-8"),
    "remit.object.base64": ("string", "its content in Base64, if it is not"),
}


def _spans() -> str:
    parts = [
        "# Spans and their attributes\n\nA trace file has one span in each line, as OTLP JSON. The names follow OpenTelemetry's "
        "conventions for generative AI where they exist. A replay reads the span events; the attributes are for people and viewers. "
        f"The scope is {code(SCOPE['name'])}, version {SCOPE['version']}; the resource has "
        f"{one_of(f'{name}={value}' for name, value in RESOURCE.items())}.\n\n"
        "Content is what people, models and tools wrote. Attributes with content are in the trace file. They are sent to a backend "
        f"only if {code(CAPTURE)} is `true`, `span_only` or `span_and_event`.\n\n"
    ]
    for name, (what, attributes) in SPANS.items():
        parts.append(f"## {code(name)}\n\n{what}\n\n{_attributes(attributes)}")
    parts.append("## Every span\n\n" + _attributes(ANY_SPAN))
    kinds = ((code(name), f"`{KIND}` = `{value}`") for name, value in KINDS.items())
    parts.append(
        "Sent to a backend only, for viewers that follow OpenInference:\n\n" + table(("span", "attribute"), kinds)
    )
    parts.append(
        "## Span events\n\nEach [event](events.md) of the run is a span event of exactly one span. Its name is the type of the event.\n\n"
        + _attributes(SPAN_EVENTS)
        + "The span events of `remit.bundle` have the name `remit.object`.\n\n"
        + _attributes(OBJECT_EVENTS)
    )
    return "".join(parts)


def _attributes(attributes: Mapping[str, tuple[str, str]]) -> str:
    rows = (
        (code(name), kind, "yes" if name in CONTENT else "", meaning) for name, (kind, meaning) in attributes.items()
    )
    return table(("attribute", "type", "content", "meaning"), rows)


# -- metrics -----------------------------------------------------------------------------------------------------------

_MODEL: Final = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.agent.name")
METRIC_ATTRIBUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "remit.runs": ("agent", "outcome", "code"),
    "remit.calls": ("agent", "action", "code"),
    "remit.model.failures": ("agent", "model", "passing"),
    "gen_ai.client.operation.duration": (*_MODEL, "error.type"),
    "gen_ai.client.token.usage": (*_MODEL, "gen_ai.token.type"),
    "gen_ai.execute_tool.duration": ("gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.agent.name", "error.type"),
}


GAUGE_ATTRIBUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "remit.runs.unfinished": ("agent", "state"),
    "remit.runs.recent": ("agent", "outcome", "code"),
    "remit.effects.in_doubt": ("agent",),
    "remit.approvals.waiting": ("age",),
    "remit.calls.recent": ("agent", "action", "code", "rule"),
    "remit.engines.disagreements": ("agent",),
    "remit.errors.recent": ("agent", "source"),
}


def _metrics() -> str:
    instruments = (
        (code(name), "counter" if kind == "count" else kind, code(unit), one_of(METRIC_ATTRIBUTES[name]), text)
        for name, (kind, unit, text) in INSTRUMENTS.items()
    )
    gauges = (
        (code(name), "gauge", code("{item}"), one_of(GAUGE_ATTRIBUTES.get(name, ())), text)
        for name, text in {**GAUGES, **OF_SERVICE}.items()
    )
    return (
        "# Metrics\n\nA run, and `remit metrics`, send metrics by OTLP over HTTP if `OTEL_EXPORTER_OTLP_ENDPOINT`, or "
        "`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`, names a collector. See [environment variables](environment.md) and "
        "[the alerts](../../traces/README.md).\n\n"
        + table(("metric", "kind", "unit", "attributes", "meaning"), [*instruments, *gauges])
        + "`code` is an [error code](codes.md), or `ok`. `action` is `_OTHER` for a name that no tool has. `error.type` is absent "
        "without an error. A gauge is of the whole workspace, `remit.definition.invalid` only in `/metrics` of a service; `rule` is the rule that denied, or the reason if none did. `source` is "
        "`remit`, `tool`, `model` or `policy`: whose error it is, as in [the codes](codes.md).\n\n## Bucket boundaries\n\n"
        + table(
            ("unit", "boundaries"),
            [
                ("`s`", ", ".join(f"{one:g}" for one in SECONDS)),
                ("`{token}`", ", ".join(f"{one:.0f}" for one in TOKENS)),
            ],
        )
    )


# -- environment variables ---------------------------------------------------------------------------------------------

VARIABLES: Final[Mapping[str, str]] = {
    "REMIT_SECRET_NAME": "The value of the secret `name`, in place of the one that `remit secret set` stored.",
    "REMIT_SECRET_NAME_FILE": "A file with the value of the secret `name`. Only its owner may read it.",
    "REMIT_BWRAP": "The bubblewrap program. A path that is no program means: there is none.",
    VARIABLE: "A delegated cgroup folder, if it is not the group of this process.",
    "REMIT_UV": "The uv program, which installs the packages of tools.",
    "REMIT_NPM": "The npm program, which installs the Node packages of tools.",
    "UV_OFFLINE": "If set, no wheels of packages are fetched to be kept for runs that go on. uv reads it too.",
    "REMIT_SERVICE": "The address of the service that `remit remote` asks: https://HOST[:PORT].",
    "REMIT_TOKEN": "With which token `remit remote` asks: one of an issuer of the service, or an API key.",
    "REMIT_DEBUG": "If set, an internal error shows its traceback.",
    "CLAUDE_PROJECT_DIR": "The folder of the project, which Claude Code names for its hooks (`remit hook run`).",
    "NO_COLOR": "If set, the output has no colours.",
    "XDG_CONFIG_HOME": "The folder in which `remit/secrets.json` is. Default: `~/.config`.",
    "XDG_CACHE_HOME": "The folder in which the packages of tools are installed. Default: `~/.cache`.",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "The collector to which spans and metrics are sent. Absent: nothing is sent.",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "The collector for spans only.",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "The collector for metrics only.",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "The collector for audit records only (`remit audit --to otlp`).",
    "OTEL_TRACES_EXPORTER": "Spans are sent only with `otlp`, the default.",
    "OTEL_METRICS_EXPORTER": "Metrics are sent only with `otlp`, the default.",
    "OTEL_LOGS_EXPORTER": "Audit records are sent only with `otlp`, the default.",
    "OTEL_SDK_DISABLED": "`true`: nothing is sent.",
    "OTEL_SERVICE_NAME": "The name of the service. Default: `remit`.",
    "OTEL_RESOURCE_ATTRIBUTES": "Further attributes of the resource, read by OpenTelemetry's SDK.",
    "OTEL_TRACES_SAMPLER": "The sampler of spans that are sent, read by OpenTelemetry's SDK.",
    CAPTURE: "`true`, `span_only` or `span_and_event`: attributes with content are sent too.",
}


def provider_variables() -> Iterator[tuple[str, str]]:
    """The variables of the providers of models, with their meaning."""
    given = [("openai", KEY, ADDRESSES), *((name, item.key, item.address) for name, item in PROVIDERS.items())]
    for name, key, addresses in given:
        if key:
            yield key, f"The key for models `{name}:…`."
        for variable in addresses:
            yield variable, f"The address of the provider for models `{name}:…`, without `base_url` in agent.toml."
    for variable, header in OPTIONAL_HEADERS.items():
        yield variable, f"The header `{header}` of requests for models `openai:…`."


def _environment() -> str:
    rows = [*VARIABLES.items(), *provider_variables()]
    return (
        "# Environment variables\n\nThe trace file of a run does not depend on any `OTEL_*` variable.\n\n"
        + table(("variable", "meaning"), ((code(name), meaning) for name, meaning in rows))
        + "A tool sees a variable only if its manifest names it in `always.env`: see [tool.toml](files/tool.md).\n"
    )
