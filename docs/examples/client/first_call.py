"""Make one call as an agent, and read why another one is refused."""

from remit import Remit

with Remit.open("my-agents") as client:
    result = client.call("files.read", {"path": "runbooks/payments-pool.md", "lines": 1}, agent="triage")
    print(result.value if result.ok else result.error)

    result = client.call("files.read", {"path": "secrets/payments.env"}, agent="triage")
    if result.error is not None:
        print(result.error.code, "-", result.error.message)
