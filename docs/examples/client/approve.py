"""A call that waits for a person, and what that person reads."""

from remit import Refusal, Remit

with Remit.open("my-agents") as client:
    result = client.call("tickets.close", {"key": "INC-2041", "reason": "fixed"}, agent="triage")
    print(result.error.code if result.error else "done")

    for waiting in client.approvals():
        print(waiting.request.summary)
        try:
            client.approve(waiting)  # as the user of this account: nobody approves their own call
        except Refusal as refusal:
            print(refusal.code)
