"""Run an agent, look at each call of the run, and replay the run from its record."""

from collections import Counter

from remit import Remit, build_timeline

with Remit.open("my-agents") as client:
    run = client.run("triage", "Checkout is failing: find out why and write the report")
    print(run.outcome, "-", run.answer.splitlines()[0])

    timeline = build_timeline(client.trace(run.run).records)
    print(Counter(call.decision.verdict for call in timeline.calls if call.decision is not None))
    for effect in timeline.effects:
        print(effect.landed, effect.action, *effect.resources)

    replay = client.replay(run.run)
    print("reproduced" if replay.reproduced else replay.divergences[0])
