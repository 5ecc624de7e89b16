# Every target first sets up `.venv`. If it is up to date, that takes no time.
PYTHON ?= python3
TASK ?= Checkout is failing: find out why and write the report
ARGS ?=
AGENTS ?= triage support
export TASK  # passed to the shell unchanged, with its quotes

BIN := .venv/bin
SETUP := $(PYTHON) .ci/bootstrap.py
TOOLS := $(sort $(wildcard tools/*/main.py))
BENCHES := $(sort $(wildcard tests/benchmarks/*.py))

# pyright's launcher asks the index for a newer version of itself unless this variable is set.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup run console screenshots test interference grounded imported imported-policies check check-mypy check-pyright check-source check-workspace docs bench bench-attacks ablate abuse soak faithful counterfactual simulations exact golden kills kills-workers fleet restores manifests threads requests mcp-conformance mcp-frameworks mcp-servers service-kills service-users hooks langgraphs deploys tiny-model eval handbook release demo-root full

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

setup:  ## Set up .venv; needs only python3
	@$(SETUP)

run: setup  ## Run the example agent on an incident (TASK="…" for another task)
	@$(BIN)/remit run triage "$$TASK"
	@command -v remit > /dev/null || echo "(remit: . .venv/bin/activate puts it on this shell's path)"

console: setup  ## Start the console on the five practice incidents; it prints the link to log in with
	@folder=$$(mktemp -d)/practice; $(BIN)/remit demo --incident all $$folder && cd $$folder && exec $(CURDIR)/$(BIN)/remit serve

screenshots: setup  ## Make the pictures of the console in docs/assets/console again; needs Chromium
	@PYTHONPATH=agent:tests $(BIN)/python tests/support/screenshots.py

test: setup  ## Run all tests (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n auto -q $(ARGS)

ablate:  ## Remove each protection in turn: its tests must fail (ARGS="Landlock" for one)
	@$(SETUP) --group inspect
	@$(BIN)/python tests/adversarial/mutation.py $(ARGS)

abuse: setup  ## Run the abuse tests as root, as root that becomes nobody, and as an ordinary user
	@$(BIN)/python tests/adversarial/accounts.py -n auto $(ARGS)

soak: setup  ## Long tests: 4,000 calls in a swap race, also in a live sandbox, 10,000 while processes are killed, 12,000 trials of channels between calls
	@REMIT_FLIPS=4000 REMIT_SOAK_CALLS=10000 REMIT_TRIALS=250 $(BIN)/python -m pytest -q -n 2 \
	    -k "swapped or ten_thousand or from_call_to_call" \
	    tests/sandbox/test_live.py tests/sandbox/test_kept_servers.py tests/sandbox/test_abuse.py tests/sandbox/test_warm.py tests/sandbox/test_import_time.py $(ARGS)

faithful: setup  ## Replay at full size: 1,000 random runs reproduced by 4 processes, kill -9 at 100 points, five incidents (REMIT_TEST_JOURNAL=postgresql)
	@REMIT_RUNS=1000 REMIT_PROCESSES=4 REMIT_POINTS=100 REMIT_INCIDENTS=5 $(BIN)/python -m pytest -q -n 2 \
	    tests/replay/test_many_runs.py tests/adversarial/test_incidents.py $(ARGS)

counterfactual: setup  ## At full size: 1,000 random runs that go on as recorded from every step, 300 runs whose candidates get no stale answer
	@REMIT_COUNTERFACTUAL_RUNS=1000 REMIT_COUNTERFACTUAL_CASES=300 $(BIN)/python -m pytest -q -n 2 \
	    tests/evals/test_counterfactual.py $(ARGS)

simulations: setup  ## Simulated evaluations and rollouts at full size: 1,000 comparisons of equal variants, drops, intervals; 2,000 rollouts; 200 streams of live runs
	@REMIT_SIMULATIONS=1000 REMIT_STREAMS=2000 REMIT_DRIFT_STREAMS=200 REMIT_DRIFT_RUNS=1000 $(BIN)/python -m pytest -q -n 2 \
	    tests/evals/test_statistics.py tests/evals/monitoring tests/rollout/test_evidence.py tests/rollout/test_shadow.py $(ARGS)

exact: setup  ## At full size: 312,000 requests compared with stock Casbin, diffs and lint by brute force, 1,000 reloads, 20,000 values of types
	@REMIT_EXACT_POLICIES=10400 REMIT_EXACT_PAIRS=2000 REMIT_EXACT_LINT=4000 REMIT_RELOADS=1000 \
	    REMIT_CONFORMANCE_PAIRS=20000 $(BIN)/python -m pytest \
	    -n auto -q -s tests/policy/test_casbin_reference.py tests/policy/test_reload.py tests/analysis/test_diff.py \
	    tests/analysis/test_reviewer_questions.py tests/tools/test_conformance.py \
	    -k "random or reload or brute_force or several or exactly or pairs" $(ARGS)

interference: setup  ## At full size: 10,000 generated cases in which documents that a reader may not read change no byte of a search
	@REMIT_SEARCH_CASES=10000 $(BIN)/python -m pytest -q tests/search/test_non_interference.py $(ARGS)

imported-policies: setup  ## At full size: 10,000 requests for each public Casbin policy, beside stock Casbin on its own model
	@REMIT_IMPORT_REQUESTS=10000 $(BIN)/python -m pytest -q -s tests/analysis/importing/test_public_policies.py $(ARGS)

imported: setup  ## At full size: a month of 10,000 calls of another tool is imported, and rules are drafted for it
	@REMIT_IMPORTED_CALLS=10000 $(BIN)/python -m pytest -q -s tests/tracing/test_imported_traces.py -k month $(ARGS)

grounded: setup  ## At full size: 1,000 answers with one thing changed are refused, 1,000 literal ones are accepted
	@REMIT_GROUNDED_ANSWERS=1000 $(BIN)/python -m pytest -q tests/guardrails/test_grounding.py -k answer_is_accepted $(ARGS)

check:  ## Everything that CI checks: style, types, imports, the workspace, documentation, tests
	@$(SETUP) --group lint --group docs --group inspect
	@# Two at a time. The output of each is printed when it has ended.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target check-pyright check-source check-mypy docs check-workspace
	@$(MAKE) --no-print-directory test

check-mypy:
	$(BIN)/mypy
	@# One run per tool, with the packages of the tool: mypy accepts only one file named main.py per run.
	@set -e; for tool in $(TOOLS); do echo "$(BIN)/mypy $$tool"; \
	    MYPYPATH="$$(dirname $$tool)" $(BIN)/mypy --python-executable "$$($(BIN)/remit tool env $$(basename $$(dirname $$tool)))" $$tool; done

check-pyright:
	$(BIN)/pyright
	@set -e; for tool in $(TOOLS); do echo "$(BIN)/pyright $$tool"; \
	    $(BIN)/pyright --pythonpath "$$($(BIN)/remit tool env $$(basename $$(dirname $$tool)))" $$tool; done

check-source:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry agent/remit
	@# Complexity A to C only.
	@echo "$(BIN)/radon cc -n D agent/remit"; complex="$$($(BIN)/radon cc -n D -s agent/remit)"; \
	    test -z "$$complex" || { echo "$$complex"; echo "error: split these functions: complexity D or worse"; exit 1; }

check-workspace:
	$(BIN)/remit check

docs:  ## Build the documentation into .cache/site, without network: a broken link is an error
	@$(SETUP) --group docs
	@PYTHONPATH=docs $(BIN)/python -m generator.site

eval: setup  ## Evaluate the example agents: 12 scenarios of each, 8 times each, with scripted models (AGENTS=support ARGS="--scenario NAME")
	@for agent in $(AGENTS); do $(BIN)/remit eval "$$agent" --repeats 8 $(ARGS) || exit; done

release:  ## Rehearse a release: two equal builds, an installation of the wheel, SBOM and licences in .cache/release; publishes nothing
	@$(SETUP) --group release
	@$(BIN)/python .ci/release.py $(ARGS)

demo-root:  ## `remit demo` from the wheel in a fresh root of Debian, without git, compiler and network; needs root and the network once, to make it
	@$(SETUP) --group release
	@$(BIN)/python .ci/demo_root.py $(ARGS)

full: setup  ## Every long target and every benchmark, in hours; it goes on where it stopped (ARGS="--write", ARGS="soak kills")
	@$(BIN)/python .ci/full.py $(ARGS)

handbook: setup  ## Read the changed documents of the example handbook into its index, which is committed beside them
	@PYTHONPATH=tools/search $(BIN)/python -c 'import main, os; os.chdir("agent/support/handbook"); [print(main.ingest(each)) for each in ("handbook", "managers")]'

golden: setup  ## Record the golden traces of the current format again; refused once a release has them
	@$(BIN)/python tests/support/golden.py

kills: setup  ## Kill 300 runs with -9 at random points and resume them, and an evaluation 20 times; 600 random histories of approvals (ARGS="--runs 3000 --seed 7 --postgres")
	@$(BIN)/python tests/adversarial/crash.py $(ARGS)
	@REMIT_EVAL_KILLS=20 $(BIN)/python -m pytest -q tests/evals/test_player.py -k killed
	@REMIT_INTERLEAVINGS=600 $(BIN)/python -m pytest -q tests/broker/test_approval_machine.py

mcp-servers: setup  ## Eight MCP servers from PyPI and npm work offline under their imported manifests, and get out by no way; needs the network to install them
	@REMIT_MCP_SERVERS=1 $(BIN)/python -m pytest -q -rs tests/end_to_end/test_real_mcp_servers.py $(ARGS)

kills-workers: setup  ## Kill workers with -9 thirty times, and PostgreSQL twice, while three of them drive 300 runs (ARGS="--runs 3000 --kills 300")
	@$(BIN)/python tests/adversarial/worker_kills.py $(ARGS)

fleet: setup  ## At full size: 10,000 runs that wait, 1,000 of one tenant, a hold of everything, a network that is cut for 30 s, 50 runs through a rolling upgrade
	@REMIT_WAITING_RUNS=10000 REMIT_QUIET_S=20 REMIT_FLOOD_RUNS=1000 REMIT_CUT_S=30 REMIT_CUT_RUNS=30 REMIT_UPGRADED_RUNS=50 REMIT_FLEET_BARS=1 \
	    $(BIN)/python -m pytest -q -s -n 0 tests/workers/test_fleet.py tests/workers/test_cut_off.py tests/workers/test_upgrade.py $(ARGS)

manifests: setup  ## The Kubernetes manifests of container/ against the schemas of Kubernetes; needs the network once
	@$(BIN)/uv tool run --from "kubernetes-validate>=1.37" kubernetes-validate --strict container/kubernetes/remit.yaml

restores: setup  ## Put the database back to a backup that is ten minutes old, while two workers drive 2,000 runs
	@REMIT_RESTORE_RUNS=2000 REMIT_RESTORE_AGE_S=600 $(BIN)/python -m pytest -q -s -n 0 tests/workers/test_restore.py $(ARGS)

threads: setup  ## At full size: a thread of 1,000 messages over 30 simulated days, 200 users of one graph at once
	@REMIT_THREAD_MESSAGES=1000 REMIT_THREAD_USERS=200 $(BIN)/python -m pytest -q -n 2 tests/langchain/test_conversations.py \
	    -k "message_1000 or at_once" $(ARGS)

requests: setup  ## At full size: 50,000 requests from the OpenAPI document, 20,000 messages of changed bytes, 10,000 of MCP clients; none gets a server error; goes on where it stopped
	@mkdir -p .cache
	@REMIT_REQUESTS=50000 REMIT_MESSAGES=20000 REMIT_MCP_MESSAGES=10000 REMIT_REQUESTS_LOG=.cache/requests.jsonl $(BIN)/python -m pytest -v -n 2 tests/server/test_any_request.py tests/server/mcp/test_messages.py $(ARGS)
	@PYTHONPATH=tests $(BIN)/python -m support.request_log .cache/requests.jsonl

mcp-conformance: setup  ## The conformance suite of MCP against `remit serve` and against Remit as a client, and the Inspector; needs npm and the network
	@$(BIN)/python -m pytest -q -s -n 0 tests/server/mcp/conformance.py tests/end_to_end/mcp_client_conformance.py $(ARGS)

mcp-frameworks: setup  ## Agents of LangChain and of the OpenAI Agents SDK with the tools of `remit serve`; needs uv and the network
	@$(BIN)/python -m pytest -q -s -n 0 tests/server/mcp/frameworks.py $(ARGS)

service-kills: setup  ## Kill the service with -9 four times while 100 calls wait for approvals, are approved and resumed
	@REMIT_SERVICE_RUNS=100 $(BIN)/python -m pytest -q -s tests/server/test_service_killed.py $(ARGS)

service-users: setup  ## At full size: 200 users of one service at once, each of whom gets their own decisions, approvals and records only
	@REMIT_SERVICE_USERS=200 $(BIN)/python -m pytest -q tests/server/test_many_users.py $(ARGS)

HOOKS_CACHE ?= $${XDG_CACHE_HOME:-$$HOME/.cache}/remit/hooks
hooks: setup  ## The real Claude Code and Codex under the hooks of `remit hook install`, Claude Code also as an MCP client, offline with a scripted model; needs npm and the network once
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$(HOOKS_CACHE)" @anthropic-ai/claude-code@2.1.332 @openai/codex@0.171.0
	@node "$(HOOKS_CACHE)/node_modules/@anthropic-ai/claude-code/install.cjs" >/dev/null
	@REMIT_CLAUDE="$(HOOKS_CACHE)/node_modules/.bin/claude" REMIT_CODEX="$(HOOKS_CACHE)/node_modules/.bin/codex" $(BIN)/python -m pytest -q -n 0 tests/server/hooks tests/server/mcp/test_real_claude_code.py $(ARGS)

langgraphs: setup  ## The tests of external graphs with the oldest and the newest LangChain and LangGraph; needs the network once
	@$(BIN)/python tests/support/langgraph_versions.py $(ARGS)

deploys: setup  ## Deploy rules, code and settings while 50 runs wait for an approval, and resume each of them
	@REMIT_DEPLOYED_RUNS=50 $(BIN)/python -m pytest -q -n 2 tests/runtime/test_deploy.py $(ARGS)

tiny-model: setup  ## Let a real model of 135M parameters drive the example agent for 30 minutes (ARGS="--minutes 5")
	@$(BIN)/python tests/adversarial/tiny_model.py $(ARGS)

bench:  ## Run every benchmark, with comparisons (bench-policy, bench-sandbox, … for one)
	@test -n "$(BENCHES)" || { echo "error: there is no benchmark in tests/benchmarks/" >&2; exit 1; }
	@$(SETUP) --group bench
	@set -e; for bench in $(BENCHES); do echo "$$bench"; $(BIN)/python $$bench; done

bench-attacks:  ## Security benchmarks: hijacked agents (AgentDojo, hidden suites, documents), data of other users (tau2), no false refusals (BFCL)
	@$(SETUP) --group bench
	@missed=0; for bench in attacks documents tau2 bfcl; do echo "tests/benchmarks/$$bench.py"; $(BIN)/python tests/benchmarks/$$bench.py || missed=1; done; exit $$missed

bench-mcp: bench-mcp_servers

bench-%:
	@$(SETUP) --group bench
	@$(BIN)/python tests/benchmarks/$*.py
