"""Decide without a workspace: a policy folder is enough. Nothing is executed or recorded."""

from remit import Context, Policy, Request

policy = Policy.load("my-agents/policies")
for resource in ("file:logs/checkout.log", "file:secrets/payments.env"):
    decision = policy.decide(
        Request(
            subjects=("agent:triage", "user:operator"), action="files.read", resources=(resource,), context=Context()
        )
    )
    print(decision.verdict, "-", decision.message)
