"""Run the clerk, and replay the run from its record."""

from remit import Remit

with Remit.open() as client:
    run = client.run("clerk", "write it down")
    print(run.outcome, "-", run.answer)
    replay = client.replay(run.run)
    print("reproduced" if replay.reproduced else replay.divergences[0])
