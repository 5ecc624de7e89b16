"""Act for the people of a service, each as the service has authenticated them."""

from remit import Principal, Remit

ISSUER = "https://login.example.com"
ANN = Principal(subject="user:operator", authenticated="oidc", account="8c1f", issuer=ISSUER)
DANA = Principal(subject="user:dana", authenticated="oidc", account="22d7", issuer=ISSUER)

with Remit.open("my-agents") as client:
    result = client.acting_as(ANN).call("tickets.close", {"key": "INC-2041", "reason": "fixed"}, agent="triage")
    print(result.error.code if result.error else "done")
    approved = client.acting_as(DANA).approve(result.run)
    print("approved by", approved.approver, "as", approved.role)
