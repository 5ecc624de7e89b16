"""What traces cost, and that a backend which nobody here wrote shows them: `make bench-traces`.

`arize-phoenix` runs in an environment of its own, on loopback, and is sent one run over OTLP as the standard variables say: a
model that streams (an OpenAI-compatible server on loopback, which counts tokens), calls that succeed, one that policy denies, one
that the tool fails. What Phoenix then says over its API is compared with the run's own trace file, span by span. Where it cannot
be had, its bar is missed.

Bars: Phoenix shows every span, AGENT, LLM, TOOL and GUARDRAIL as such, with arguments, results, tokens and errors; a replay takes
at most 3 ms of processor time a step; writing spans adds at most 25 % to the p50 of a warm brokered call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from sandbox import CACHE, ROOT, SPACE_S, Brokered, Row, real_time, timed

from remit.core.calls import Json
from remit.replay.replayer import replay
from remit.runtime import runner as run
from remit.tracing import read_trace
from remit.workspace import session
from remit.workspace.bundle import open_bundle
from remit.workspace.template import write_starter
from support.openai_server import OpenAIServer, Reply
from support.principals import OPERATOR
from support.runs import DONE, TASK, turn
from support.workspaces.ledger import ledger_workspace

PHOENIX: Final = "arize-phoenix==20.26.1"
START_S: Final = 300.0  # until it listens: it migrates its database first
ARRIVE_S: Final = 60.0  # until a span that was sent can be asked for
STEPS: Final = 60
KINDS: Final = {"invoke_agent": "AGENT", "chat": "LLM", "execute_tool": "TOOL", "remit.decide": "GUARDRAIL"}
REPLIES: Final = (
    Reply(text="I look first.", calls=[("files__read", '{"path": "runbooks/payments-pool.md"}')]),
    Reply(calls=[("files__read", '{"path": "secrets/payments.env"}'), ("files__read", '{"path": "logs/none.log"}')]),
    Reply(calls=[("files__write", '{"path": "reports/note.md", "text": "A pool of two is too small."}')]),
    Reply(text="It is the pool."),
)

Span = Mapping[str, Any]


# -- Phoenix -----------------------------------------------------------------------------------------------------------


def install() -> Path | str:
    """Phoenix in an environment of its own; why not, where it cannot be had."""
    place = CACHE / "phoenix"
    program = place / "bin" / "phoenix"
    if program.exists():
        return program
    uv = next((str(path) for path in sorted((ROOT / ".cache").glob("uv-*/uv"))), None) or shutil.which("uv")
    if uv is None:
        return "there is no uv: run `make setup`"
    for line in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), PHOENIX],
    ):
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"`{' '.join(line[1:3])}` said: {' '.join(done.stderr.split())[-300:]}"
    return program


@contextmanager
def serving(program: Path, base: Path) -> Iterator[str]:
    """Phoenix on loopback, with a database of its own; ended when the context closes."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(str(free.getsockname()[1]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PHOENIX_"))}
    environment |= {
        "PHOENIX_WORKING_DIR": str(base), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": ports[0], "PHOENIX_GRPC_PORT": ports[1],
        "PHOENIX_TELEMETRY_ENABLED": "false", "PHOENIX_AGENTS_DISABLE_BASH": "true",
    }  # fmt: skip
    address = f"http://127.0.0.1:{ports[0]}"
    with (base / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve"], env=environment, cwd=base, stdout=log, stderr=log)
        try:
            until = time.monotonic() + START_S
            while not answers(f"{address}/healthz"):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"Phoenix does not start: {(base / 'log').read_text()[-600:]}")
                time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def send_run(folder: Path, address: str) -> Path:
    """Play a run in a fresh workspace that exports to Phoenix; its trace file."""
    write_starter(folder)
    with OpenAIServer(REPLIES) as server:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_METRICS_EXPORTER": "none",
            "OTEL_RESOURCE_ATTRIBUTES": "openinference.project.name=remit",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
            "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "no-key-at-all",
        }  # fmt: skip
        line = [sys.executable, "-m", "remit", "run", "triage", TASK, "--model", "openai:any", "--json"]
        done = subprocess.run(
            line, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stdout[-300:]} {done.stderr[-600:]}")
    return Path(json.loads(done.stdout.splitlines()[-1])["trace"])


def received(address: str, run: str, count: int) -> list[dict[str, Any]]:
    """The run's spans as Phoenix says over its API, once there are `count`, or no more come."""
    spans: list[dict[str, Any]] = []
    until = time.monotonic() + ARRIVE_S
    while len(spans) < count and time.monotonic() < until:
        with urllib.request.urlopen(f"{address}/v1/projects/remit/spans?limit=1000", timeout=10) as answer:
            found = json.load(answer)["data"]
        spans = [span for span in found if span["context"]["trace_id"] == run]
        time.sleep(0.2)
    return spans


def differences(path: Path, spans: Sequence[Span]) -> list[str]:
    """Where Phoenix shows other than the file says; empty where it shows all of it."""
    shown = {span["context"]["span_id"]: span for span in spans}
    found: list[str] = []
    for written in read_trace(path).spans:
        name = f"{written.name} {written.span_id}"
        span = shown.get(written.span_id)
        if span is None:
            found.append(f"{name}: it is not there")
            continue
        kind = KINDS.get(written.name.split()[0], "UNKNOWN")
        message = [
            ("kind", span["span_kind"], kind),
            ("parent", span["parent_id"], written.parent_id),
            ("status", span["status_code"], "UNSET" if written.error is None else "ERROR"),
            ("message", span["status_message"], written.error or ""),
            ("error", span["attributes"].get("error.type"), written.attributes.get("error.type")),
            *of_kind(kind, span["attributes"], written.attributes),
        ]
        found += [f"{name}: its {what} is {have!r}, and was {want!r}" for what, have, want in message if have != want]
    return found


def of_kind(kind: str, shown: Span, written: Span) -> Iterator[tuple[str, Json, Json]]:
    """What Phoenix's own view of a span reads, beside what the file has for it: (what, shown, written)."""
    if kind == "TOOL":
        arguments: dict[str, Json] = json.loads(str(written["gen_ai.tool.call.arguments"]))
        yield "name", shown.get("tool.name"), written["gen_ai.tool.name"]
        yield from (
            (f"argument {name}", shown.get(f"tool.parameters.{name}"), value) for name, value in arguments.items()
        )
        yield "result", shown.get("output.value"), written["gen_ai.tool.call.result"]
    if kind == "LLM":
        for theirs, ours in (("prompt", "input_tokens"), ("completion", "output_tokens")):
            yield ours, shown.get(f"llm.token_count.{theirs}"), written[f"gen_ai.usage.{ours}"]
        received = json.loads(str(written["gen_ai.output.messages"]))[0]["parts"]
        texts = [part["content"] for part in received if part["type"] == "text"]
        yield "answer", shown.get("llm.output_messages.0.message.content"), texts[0] if texts else None
        calls = [part["name"] for part in received if part["type"] == "tool_call"]
        at = "llm.output_messages.0.message.tool_calls.{}.tool_call.function.name"
        yield "calls", [shown.get(at.format(number)) for number in range(len(calls))], calls
    if kind == "GUARDRAIL":
        yield "verdict", shown.get("remit.verdict"), written.get("remit.verdict")


def phoenix(base: Path) -> dict[str, Any]:
    """What Phoenix shows of one run."""
    program = install()
    if isinstance(program, str):
        return {"missing": program}
    (base / "phoenix").mkdir()
    try:
        with serving(program, base / "phoenix") as address:
            path = send_run(base / "workspace", address)
            written = read_trace(path).spans
            spans = received(address, path.stem, len(written))
    except (RuntimeError, OSError) as failure:
        return {"missing": str(failure)}
    kinds = {kind: sum(span["span_kind"] == kind for span in spans) for kind in KINDS.values()}
    failed = sum(span["status_code"] == "ERROR" for span in spans)
    tokens = sum(int(span["attributes"].get("llm.token_count.prompt", 0)) for span in spans)
    wrong = differences(path, spans)
    wrong += [f"there is no {kind} span" for kind, count in kinds.items() if not count]
    wrong += [] if failed and tokens else ["there is no error, or there are no tokens, to be shown"]
    return {
        "kinds": kinds,
        "spans": len(spans),
        "written": len(written),
        "errors": failed,
        "tokens": tokens,
        "wrong": wrong,
    }


# -- what it costs -----------------------------------------------------------------------------------------------------


def long_run(folder: Path) -> tuple[session.WorkspaceSession, str]:
    """A run of 60 steps, each with a call, in a workspace whose tool runs in this process."""
    sys.path.insert(0, str(folder / "hosted"))
    os.environ["LEDGER"] = str(folder / "ledger.jsonl")
    turns = [
        turn(f"step {number}", ledger__look={"name": f"a{number}", "text": "x" * 200}) for number in range(STEPS - 1)
    ]
    ledger_workspace(folder, [*turns, DONE], steps=STEPS + 1, calls=STEPS)
    opened = session.open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="look", subject="user:operator", by=OPERATOR, model=model)
    return opened, asyncio.run(run.start_run(opened, start)).run


def replaying(base: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Processor seconds of each replay a step, and of reading, verifying and opening the rules before it, in all.

    Of processor time the least counts: neighbours on the same core and cache only ever add to it.
    """
    opened, name = long_run(base / "clerk")
    path = opened.traces / f"{name}.jsonl"
    steps: list[float] = []
    opening: list[float] = []
    for turn_ in range(-1, rounds):
        started = time.process_time()
        trace = read_trace(path)
        if trace.faults():
            raise RuntimeError(f"the record is not whole: {trace.faults()[0]}")
        books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
        ready = time.process_time()
        found = asyncio.run(replay(trace.records, books))
        if not found.reproduced or found.turns != STEPS:
            raise RuntimeError(f"{found.turns} turns, {found.divergences}")
        if turn_ >= 0:  # the first one warms everything up
            steps.append((time.process_time() - ready) / STEPS)
            opening.append(ready - started)
    return steps, opening


async def writing(base: Path, rounds: int) -> tuple[Row, Row]:
    """A warm brokered call without spans and with them, in turns."""
    bare, traced = Brokered(base / "bare"), Brokered(base / "traced", traced=True)
    rows = Row(name="warm brokered call, journal only"), Row(name="warm brokered call, spans written")
    for turn_ in range(-1, rounds):
        for _ in range(4):
            for row, brokered in zip(rows, (bare, traced), strict=True):
                await asyncio.sleep(SPACE_S)
                await timed(row, brokered.call)
        if turn_ < 0:
            for row in rows:
                row.seconds.clear()
    for brokered in (bare, traced):
        await brokered.sandbox.close()
    return rows


def show(seen: Mapping[str, Any], steps: Sequence[float], opening: Sequence[float], rows: Sequence[Row]) -> None:
    """Print what was measured."""
    print(f"{os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}\n")
    if "missing" in seen:
        print(f"{PHOENIX}: SKIPPED: {seen['missing']}")
    else:
        kinds = ", ".join(f"{count} {kind}" for kind, count in seen["kinds"].items())
        print(f"{PHOENIX} shows {seen['spans']} of {seen['written']} spans: {kinds}")
        print(f"  {seen['errors']} of them with errors; {seen['tokens']} tokens asked")
        for line in seen["wrong"]:
            print(f"  {line}")
    median_ms = median(steps) * 1e3
    print(
        f"replay of {STEPS} steps: {min(steps) * 1e3:.2f} ms CPU a step, median {median_ms:.2f} of {len(steps)} replays"
    )
    print(f"reading its file, verifying it and opening its rules before: {min(opening) * 1e3:.0f} ms CPU")
    for row in rows:
        print(f"{row.name:<40} p50 {row.p50 * 1e3:.3f} ms, p99 {row.p99 * 1e3:.3f} ms, {len(row.seconds)} calls")
    print()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=int(os.environ.get("REMIT_BENCH_ROUNDS", "30")))
    options.add_argument("--plain", action="store_true", help="Leave the scheduling class as it is.")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as place:
        seen = phoenix(Path(place))
        scheduling = "the usual class" if chosen.plain else real_time()
        steps, opening = replaying(Path(place), max(3, chosen.rounds // 2))
        bare, traced = asyncio.run(writing(Path(place), chosen.rounds))
    print(f"scheduling: {scheduling}; ", end="")
    show(seen, steps, opening, (bare, traced))
    shown_wrong = float("nan") if "missing" in seen else float(len(seen["wrong"]))
    bars = [
        ("spans that Phoenix shows otherwise, or not at all", shown_wrong, 0.0),
        ("ms of processor time that a step of a replay takes", min(steps) * 1e3, 3.0),
        ("% that writing spans adds to a warm brokered call", (traced.p50 / bare.p50 - 1) * 100, 25.0),
    ]
    for name, value, bar in bars:  # not a number where Phoenix is missing: no bar is held by that
        print(f"{'held  ' if value <= bar else 'MISSED'} {name}: {value:.1f} (bar <= {bar:g})")
    (ROOT / ".bench").mkdir(exist_ok=True)
    body = {
        "scheduling": scheduling, "phoenix": {"version": PHOENIX, **seen},
        "replay_cpu_s_per_step": steps, "opening_cpu_s": opening,
        "rows": [{"name": row.name, "p50_s": row.p50, "p99_s": row.p99, "calls": len(row.seconds)} for row in (bare, traced)],
        "bars": [{"name": name, "value": value, "bar": f"<= {bar:g}"} for name, value, bar in bars],
    }  # fmt: skip
    (ROOT / ".bench" / "traces.json").write_text(json.dumps(body, indent=2).replace("NaN", "null"))
    return 0 if all(value <= bar for _, value, bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
