"""How long a decision takes, beside the peers on the same rules and requests in one run: `make bench-policy`.

Rules: 500 agents in 100 teams in 30 departments in 8 organisations (three role levels), 120 actions, globs, 30% of rules with
a condition, one rule in seven denies. Requests are all distinct; nobody has a result cache. Figures are processor time of
the calling thread for one decision. Agreement is with Remit's verdict, over the requests that a peer was asked.
A peer that is too slow for a size is asked fewer requests, and one whose time would be out of all proportion is skipped: both
are printed. Peers are in the dependency group `bench`; one that is not installed is reported and skipped.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from remit.core.calls import Context, Request
from remit.policy import engine as policy
from remit.policy.casbin_reference import load_stock_enforcer
from remit.policy.language.roles import RoleLink, closures

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "policies" / "model.conf").read_bytes()
SIZES = (10, 100, 1_000, 10_000, 100_000)
REQUESTS = 2_000
PASSES = 7  # over all requests, for each engine that is quick enough; each request's best counts, so that a busy machine does not
APART_S = 0.4  # between passes: what else runs here comes in bursts
PATIENCE_S = 60.0  # of one peer at one size, asking and building each
ACTIONS = [f"tool{tool}.do{action}" for tool in range(12) for action in range(10)]
EXTENSIONS = ("csv", "md", "log")

ProposedCall = Callable[[Request], bool]


@dataclass(frozen=True, kw_only=True)
class Written:
    """One rule as every peer reads it: `glob` is of `projects/pN/dM/fK.ext`; `condition` is (kind, value)."""

    subject: str
    action: str
    glob: str
    condition: tuple[str, Any]
    effect: str

    @property
    def row(self) -> str:
        kind, value = self.condition
        texts = {
            "": "True",
            "size": f"args.size < {value}",
            "env": f"env == '{value}'",
            "label": f"'{value}' not in labels",
        }
        return f"p, {self.subject}, {self.action}, file:{self.glob}, {texts[kind]}, {self.effect}"


@dataclass(kw_only=True)
class GeneratedPolicy:
    """Rules, roles and requests of one size."""

    rules: list[Written]
    links: list[tuple[str, str]]
    roles: dict[str, frozenset[str]]
    requests: list[Request]

    @property
    def files(self) -> dict[str, bytes]:
        rows = [*(f"g, {member}, {role}" for member, role in self.links), *(rule.row for rule in self.rules)]
        return {"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(rows).encode()}


@dataclass(kw_only=True)
class Figure:
    """One engine at one size; microseconds. `skipped` says why there are none."""

    engine: str
    rules: int
    p50: float = 0.0
    p99: float = 0.0
    asked: int = 0
    agreed: int = 0
    build_s: float = 0.0
    skipped: str = ""
    note: str = ""
    answers: list[bool] = field(default_factory=list[bool], repr=False)


# ── the rules and the requests ───────────────────────────────────────────────────────────────────────────────────────


def generate_policy(size: int, seed: int = 1) -> GeneratedPolicy:
    """Rules of that number, and requests of which about half are allowed."""
    dice = random.Random(seed * 1_000_003 + size)
    agents = [f"agent:a{n}" for n in range(500)]
    teams, departments, organisations = (
        [f"role:{kind}{n}" for n in range(many)] for kind, many in (("t", 100), ("d", 30), ("o", 8))
    )
    links = [
        *((agent, teams[n % 100]) for n, agent in enumerate(agents)),
        *((team, departments[n % 30]) for n, team in enumerate(teams)),
        *((department, organisations[n % 8]) for n, department in enumerate(departments)),
    ]
    roles = closures([RoleLink(file="", line=0, member=member, role=role) for member, role in links])
    members: dict[str, list[str]] = {agent: [agent] for agent in agents}
    for agent in agents:
        for role in roles[agent]:
            members.setdefault(role, []).append(agent)
    projects = max(4, size // 25)
    rules: dict[str, Written] = {}
    while len(rules) < size:
        rule = Written(
            subject=dice.choice(dice.choices((agents, teams, departments, organisations), (4, 3, 2, 1))[0]),
            action=dice.choice(ACTIONS),
            glob=glob(dice, projects),
            condition=condition(dice),
            effect="deny" if dice.random() < 1 / 7 else "allow",
        )
        rules.setdefault(rule.row, rule)
    requests: dict[str, Request] = {}
    allows = [rule for rule in rules.values() if rule.effect == "allow"]
    every = list(rules.values())
    while len(requests) < REQUESTS:
        rule = dice.choice(allows if dice.random() < 0.85 else every)
        resource = f"file:{instance(dice, rule.glob, projects)}"
        if dice.random() < 0.2:  # something else than the rule is about
            resource = f"file:{instance(dice, '**', projects)}"
        subject, action = dice.choice(members[rule.subject]), rule.action
        context = Context(
            args={"size": dice.randrange(1000), "path": resource},
            env=dice.choice(("prod", "prod", "local")),
            labels=frozenset(dice.sample(("untrusted", "secret", "personal"), dice.choice((0, 0, 1)))),
        )
        request = Request(subjects=(subject,), action=action, resources=(resource,), context=context)
        requests.setdefault(f"{subject} {action} {resource} {context}", request)
    return GeneratedPolicy(rules=every, links=links, roles=roles, requests=list(requests.values()))


def glob(dice: random.Random, projects: int) -> str:
    project, folder, name = f"p{dice.randrange(projects)}", f"d{dice.randrange(20)}", f"f{dice.randrange(50)}"
    forms = (
        f"projects/{project}/**",
        f"projects/{project}/{folder}/*",
        f"projects/{project}/{folder}/**",
        f"projects/{project}/*/{name}.csv",
        f"projects/{project}/{folder}/{name}.md",
        f"projects/{project}/**/{name}.{dice.choice(EXTENSIONS)}",
    )
    return dice.choice(forms)


def condition(dice: random.Random) -> tuple[str, Any]:
    if dice.random() >= 0.3:
        return ("", None)
    kind = dice.choice(("size", "env", "label"))
    return kind, {"size": dice.randrange(100, 1000), "env": "prod", "label": dice.choice(("untrusted", "secret"))}[kind]


def instance(dice: random.Random, pattern: str, projects: int) -> str:
    """A path that the pattern matches, always of four segments."""
    parts = pattern.split("/")
    if pattern == "**":
        parts = ["projects", f"p{dice.randrange(projects)}", "*", "*"]
    elif parts[-1] == "**":
        parts = [*parts[:-1], *["*"] * (5 - len(parts))]
    parts = [f"d{dice.randrange(20)}" if part == "**" else part for part in parts]
    fill = ("projects", "p0", f"d{dice.randrange(20)}", f"f{dice.randrange(50)}.{dice.choice(EXTENSIONS)}")
    return "/".join(fill[at] if part == "*" else part for at, part in enumerate(parts))


# ── the engines ──────────────────────────────────────────────────────────────────────────────────────────────────────


def remit(made: GeneratedPolicy) -> ProposedCall:
    rules = policy.load_policy(made.files)
    return lambda request: rules.judge(request).allowed


def remit_in_words(made: GeneratedPolicy) -> ProposedCall:
    """The whole decision that is recorded: sentence, rules with their notes, facts, nearest misses, approvals."""
    rules = policy.load_policy(made.files)
    return lambda request: rules.decide(request).verdict == "allow"


def remit_model(made: GeneratedPolicy) -> ProposedCall:
    """Remit's own files in a stock enforcer: its three registered functions, no eval()."""
    reference = load_stock_enforcer(made.files)
    return lambda request: reference.enforce(request.subjects[0], request.action, request.resources[0], request.context)


CASBIN = """
[request_definition]
r = sub, act, obj, ctx
[policy_definition]
p = sub, act, obj, cond, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.act == p.act && g(r.sub, p.sub) && globMatch(r.obj, p.obj) && eval(p.cond)
"""


def pycasbin(made: GeneratedPolicy) -> ProposedCall:
    """As Casbin's own documentation has it: globMatch, and eval() of the rule's condition."""
    import casbin
    from casbin.model import Model

    return _casbin(casbin.Enforcer(_filled(Model(), made)))


def pycasbin_fast(made: GeneratedPolicy) -> ProposedCall:
    """Keyed on the action: exact only because these rules name actions in full."""
    import casbin
    from casbin.model import FastModel

    return _casbin(casbin.FastEnforcer(_filled(FastModel([1]), made), cache_key_order=[1]))


def _filled(model: Any, made: GeneratedPolicy) -> Any:
    from casbin.persist import load_policy_line

    model.load_model_from_text(CASBIN)
    tests = {"": "True", "size": "r.ctx.size < {}", "env": "r.ctx.env == '{}'", "label": "'{}' not in r.ctx.labels"}
    for rule in made.rules:
        kind, value = rule.condition
        row = (rule.subject, rule.action, rule.glob, tests[kind].format(value), rule.effect)
        load_policy_line(f"p, {', '.join(row)}", model)
    for member, role in made.links:
        load_policy_line(f"g, {member}, {role}", model)
    return model


def _casbin(enforcer: Any) -> ProposedCall:
    enforcer.build_role_links()

    def ask(request: Request) -> bool:
        facts = _facts(request)
        path = facts.pop("path")
        try:
            return bool(enforcer.enforce(request.subjects[0], request.action, path, facts))
        except RuntimeError:  # what FastEnforcer says where no rule has the action
            return False

    return ask


def cedar(made: GeneratedPolicy) -> ProposedCall:
    from cedarpy import Entities, PolicySet, is_authorized

    policies, entities = PolicySet.from_str(_cedar(made.rules)), Entities.from_json_str(_entities(made))
    return lambda request: bool(is_authorized(_cedar_request(request), policies, entities).allowed)


def cedar_by_action(made: GeneratedPolicy) -> ProposedCall:
    """One set for each action, chosen before Cedar is asked."""
    from cedarpy import Entities, PolicySet, is_authorized

    by_action: dict[str, list[Written]] = {}
    for rule in made.rules:
        by_action.setdefault(rule.action, []).append(rule)
    sets = {action: PolicySet.from_str(_cedar(rules)) for action, rules in by_action.items()}
    entities = Entities.from_json_str(_entities(made))
    return lambda request: bool(is_authorized(_cedar_request(request), sets[request.action], entities).allowed)


def _cedar(rules: list[Written]) -> str:
    """`like` knows one wildcard, which crosses slashes: the same here, where every path has four segments."""
    lines: list[str] = []
    tests = {
        "": "",
        "size": " && context.size < {}",
        "env": ' && context.env == "{}"',
        "label": ' && !context.labels.contains("{}")',
    }
    for rule in rules:
        kind, value = rule.condition
        like = rule.glob.replace("/**/", "/*/").replace("**", "*")
        effect = "permit" if rule.effect == "allow" else "forbid"
        lines.append(
            f'{effect}(principal in S::"{rule.subject}", action == Action::"{rule.action}", resource)'
            f' when {{ context.path like "{like}"{tests[kind].format(value)} }};'
        )
    return "\n".join(lines)


def _entities(made: GeneratedPolicy) -> str:
    parents: dict[str, list[str]] = {}
    for member, role in made.links:
        parents.setdefault(member, []).append(role)
        parents.setdefault(role, [])
    return json.dumps(
        [
            {
                "uid": {"type": "S", "id": name},
                "attrs": {},
                "parents": [{"type": "S", "id": role} for role in roles],
            }
            for name, roles in parents.items()
        ]
    )


def _cedar_request(request: Request) -> dict[str, Any]:
    return {
        "principal": {"type": "S", "id": request.subjects[0]},
        "action": {"type": "Action", "id": request.action},
        "resource": {"type": "R", "id": "r"},
        "context": _facts(request),
    }


def _facts(request: Request) -> dict[str, Any]:
    context = request.context
    return {
        "path": request.resources[0].removeprefix("file:"),
        "size": context.args["size"],
        "env": context.env,
        "labels": sorted(context.labels),
    }


REGO = """
package p
import rego.v1

default allow := false

holds(r) if r.kind == ""
holds(r) if { r.kind == "size"; input.size < r.value }
holds(r) if { r.kind == "env"; input.env == r.value }
holds(r) if { r.kind == "label"; not r.value in input.labels }

matched contains r.effect if {
    some r in data.rules[input.action]
    r.subject in input.subjects
    regex.match(r.pattern, input.path)
    holds(r)
}

allow if { "allow" in matched; not "deny" in matched }
"""


def rego(made: GeneratedPolicy) -> ProposedCall:
    """Rules as data under their action, a bundle built once; role closure given."""
    from regopy import Interpreter

    rules: dict[str, list[dict[str, Any]]] = {}
    for rule in made.rules:
        kind, value = rule.condition
        row = {
            "subject": rule.subject,
            "pattern": _regex(rule.glob),
            "kind": kind,
            "value": value,
            "effect": rule.effect,
        }
        rules.setdefault(rule.action, []).append(row)
    building = Interpreter()
    building.add_data({"rules": rules})
    building.add_module("p.rego", REGO)
    bundle = building.build("x = data.p.allow")
    running = Interpreter()

    def ask(request: Request) -> bool:
        (subject,) = request.subjects
        facts = {**_facts(request), "action": request.action, "subjects": [subject, *made.roles[subject]]}
        running.set_input(facts)
        return '"x":true' in str(running.query_bundle(bundle)).replace(" ", "")

    return ask


def kernel(made: GeneratedPolicy) -> ProposedCall:
    """One condition a rule: subject, action and path in one expression, and rule conditions cannot be said at all."""
    from agent_os.policies import (
        PolicyAction,
        PolicyCondition,
        PolicyDocument,
        PolicyEvaluator,
        PolicyOperator,
        PolicyRule,
    )
    from agent_os.policies.schema import PolicyDefaults

    rules = [
        PolicyRule(
            name=str(number),
            condition=PolicyCondition(
                field="key",
                operator=PolicyOperator.MATCHES,
                value=rf"^.* {re.escape(rule.subject)} .*\|{re.escape(rule.action)}\|{_regex(rule.glob)[1:]}",
            ),
            action=PolicyAction.ALLOW if rule.effect == "allow" else PolicyAction.DENY,
            priority=0 if rule.effect == "allow" else 1,
        )
        for number, rule in enumerate(made.rules)
    ]
    document = PolicyDocument(name="p", rules=rules, defaults=PolicyDefaults(action=PolicyAction.DENY))
    evaluator = PolicyEvaluator(policies=[document])

    def ask(request: Request) -> bool:
        (subject,) = request.subjects
        who = " ".join(["", subject, *made.roles[subject], ""])
        key = f"{who}|{request.action}|{request.resources[0].removeprefix('file:')}"
        return bool(evaluator.evaluate({"key": key}).allowed)

    return ask


def _regex(pattern: str) -> str:
    parts = {"**": ".+", "*": "[^/]*"}
    body = "/".join(parts.get(part, re.escape(part).replace(r"\-", "-")) for part in pattern.split("/"))
    return f"^{body.replace('/.+/', '/(.+/)?')}$"


ENGINES: dict[str, tuple[Callable[[GeneratedPolicy], ProposedCall], str]] = {
    "remit": (remit, ""),
    "remit, in words": (remit_in_words, ""),
    "pycasbin Enforcer": (pycasbin, "casbin"),
    "pycasbin, Remit's model": (remit_model, "casbin"),
    "pycasbin FastEnforcer": (pycasbin_fast, "casbin"),
    "cedarpy, whole set": (cedar, "cedarpy"),
    "cedarpy, set per action": (cedar_by_action, "cedarpy"),
    "regopy": (rego, "regopy"),
    "agent-os-kernel": (kernel, "agent_os"),
}
ABSENT = "not installed"
BLIND = {"agent-os-kernel": "no conditions: agreement with Remit on the same rules without them"}


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def measured(engine: str, made: GeneratedPolicy, truth: list[bool], earlier: Figure | None) -> Figure:
    """One engine at one size; `earlier` is the same engine at the size before, from which its time is guessed."""
    make, module = ENGINES[engine]
    size = len(made.rules)
    if importlib.util.find_spec(module or "remit") is None:
        return Figure(engine=engine, rules=size, skipped=ABSENT)
    if earlier is not None and earlier.skipped:
        return Figure(engine=engine, rules=size, skipped="it was too slow at the size before")
    if earlier is not None and earlier.build_s * 10 > PATIENCE_S:
        guess = f"building took {earlier.build_s:.0f} s at the size before: more than {PATIENCE_S:.0f} s here"
        return Figure(engine=engine, rules=size, skipped=guess)
    began = time.thread_time()
    ask = make(made)
    build_s = time.thread_time() - began
    once = _cost(ask, made.requests[0])
    many = max(3, min(REQUESTS, int(PATIENCE_S / 4 / once)))
    gc.collect()
    overhead = _looking_at_the_clock()
    answers: list[bool] = []
    passes: list[list[float]] = []
    stop = time.monotonic() + PATIENCE_S
    while len(passes) < PASSES and (not passes or sum(passes[0]) * 1e-6 < PATIENCE_S / 20):
        if passes:
            time.sleep(APART_S)
        passes.append([])
        for number, request in enumerate(made.requests[:many]):
            began_ns = time.thread_time_ns()
            answer = ask(request)
            passes[-1].append((time.thread_time_ns() - began_ns) / 1000)
            if len(passes) == 1:
                answers.append(answer)
            if time.monotonic() > stop and number >= 2:
                break
    best = map(min, *passes) if len(passes) > 1 else passes[0]
    costs = sorted(cost - overhead for cost in best)
    return Figure(
        engine=engine,
        rules=size,
        p50=median(costs),
        p99=costs[min(len(costs) - 1, int(len(costs) * 0.99))],
        asked=len(answers),
        agreed=sum(answer == right for answer, right in zip(answers, truth, strict=False)) if truth else len(answers),
        build_s=build_s,
        note=BLIND.get(engine, ""),
        answers=answers,
    )


def _looking_at_the_clock() -> float:
    """Microseconds that reading the clock adds to every figure, for every engine."""
    costs: list[float] = []
    for _ in range(2000):
        began_ns = time.thread_time_ns()
        costs.append((time.thread_time_ns() - began_ns) / 1000)
    return min(costs)


def _cost(ask: ProposedCall, request: Request) -> float:
    began = time.thread_time()
    ask(request)
    return max(1e-6, time.thread_time() - began)


def without_conditions(made: GeneratedPolicy) -> list[bool]:
    plain = [
        Written(subject=rule.subject, action=rule.action, glob=rule.glob, condition=("", None), effect=rule.effect)
        for rule in made.rules
    ]
    ask = remit(GeneratedPolicy(rules=plain, links=made.links, roles=made.roles, requests=[]))
    return [ask(request) for request in made.requests]


def shown(figures: list[Figure]) -> Iterator[str]:
    by = {(figure.engine, figure.rules): figure for figure in figures}
    yield f"{'engine':<26}{'rules':>8}{'p50 us':>14}{'p99 us':>14}{'x remit':>12}{'asked':>7}{'agreed':>8}{'build s':>9}"
    for figure in sorted(figures, key=lambda one: (one.rules, list(ENGINES).index(one.engine))):
        head = f"{figure.engine:<26}{figure.rules:>8}"
        if figure.skipped:
            yield f"{head}  skipped: {figure.skipped}"
            continue
        ratio = figure.p50 / by["remit", figure.rules].p50
        agreed = f"{figure.agreed / figure.asked:.1%}"
        yield f"{head}{figure.p50:>14,.1f}{figure.p99:>14,.1f}{ratio:>12,.1f}{figure.asked:>7}{agreed:>8}{figure.build_s:>9.2f}"


def bars(figures: list[Figure]) -> Iterator[tuple[str, bool]]:
    """Each bar with what was measured, and whether it is held."""
    by = {(figure.engine, figure.rules): figure for figure in figures if not figure.skipped}
    mine = {figure.rules: figure.p50 for figure in figures if figure.engine == "remit"}
    if {10, 100_000} <= set(mine):
        ratio = mine[100_000] / mine[10]
        yield f"p50 at 100,000 rules is {ratio:.2f} times that at 10 (at most 3)", ratio <= 3
    for size, least in ((10_000, 30), (100_000, 200)):
        peers = {
            name: by[name, size].p50 / mine[size]
            for name in ENGINES
            if not name.startswith("remit") and (name, size) in by
        }
        if peers:
            fastest = min(peers, key=lambda name: peers[name])
            received = f"{peers[fastest]:,.0f} times faster than the fastest peer at {size:,} rules, {fastest} (at least {least})"
            yield received, peers[fastest] >= least
    if ("pycasbin Enforcer", 10_000) in by:
        ratio = by["pycasbin Enforcer", 10_000].p50 / mine[10_000]
        yield f"{ratio:,.0f} times faster than stock pycasbin at 10,000 rules (at least 10,000)", ratio >= 10_000
    absent = sorted({figure.engine for figure in figures if figure.skipped == ABSENT})
    yield f"all peers are there{': not ' + ', '.join(absent) if absent else ''}", not absent
    disagreed = [f"{one.engine} at {one.rules:,}" for one in by.values() if one.agreed < one.asked]
    yield f"all answers agree{': not ' + ', '.join(disagreed) if disagreed else ''}", not disagreed


def main() -> int:
    """Measure, print, write `.bench/policy.json`; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), help="by the beginning of their names")
    options = parser.parse_args()
    engines = [
        name for name in ENGINES if name.startswith("remit") or any(name.startswith(one) for one in options.engines)
    ]
    figures: list[Figure] = []
    last: dict[str, Figure] = {}
    for size in options.sizes:
        made = generate_policy(size)
        truth: list[bool] = []
        for engine in engines:
            right = without_conditions(made) if engine in BLIND else truth
            figure = last[engine] = measured(engine, made, right, last.get(engine))
            truth = truth or figure.answers
            figures.append(figure)
            print(f"  {engine} at {size:,}: {figure.skipped or f'{figure.p50:,.1f} us'}", file=sys.stderr, flush=True)
        print(f"{size:,} rules: {sum(truth) / len(truth):.0%} of {len(truth):,} requests allowed", file=sys.stderr)
    print("\n".join(shown(figures)))
    print("\n".join(f"{name}: {note}" for name, note in BLIND.items() if name in engines))
    held = list(bars(figures))
    print("\n".join(f"{'held  ' if ok else 'MISSED'} {text}" for text, ok in held))
    found = [{key: value for key, value in vars(figure).items() if key != "answers"} for figure in figures]
    out = ROOT / ".bench"
    out.mkdir(exist_ok=True)
    (out / "policy.json").write_text(json.dumps({"figures": found, "bars": held}, indent=2))
    return 0 if all(ok for _, ok in held) else 1


if __name__ == "__main__":
    sys.exit(main())
