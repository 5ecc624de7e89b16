from remit import Remit

with Remit.open() as client:
    for path in ("runbooks/payments-pool.md", "secrets/payments.env"):
        result = client.call("files.read", {"path": path, "lines": 1}, agent="triage")
        print("ok" if result.error is None else result.error.code)

    run = client.run("triage", "Checkout is failing: find out why")
    print(run.outcome, "and reproduced:", client.replay(run.run).reproduced)
