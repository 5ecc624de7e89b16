"""What would be decided on this call, and by which rules? Nothing is executed or recorded."""

from remit import Remit

with Remit.open("my-agents") as client:
    explained = client.explain("files.read", {"path": "secrets/payments.env"}, agent="triage")
    print(explained.decision.verdict, "-", explained.decision.message)
    for one in explained.rules:
        print(f"{one.rule.file}:{one.rule.line} {one.says} {one.resource} for {one.subject}: {one.rule.note}")
