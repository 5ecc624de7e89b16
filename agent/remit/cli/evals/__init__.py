"""The commands about quality: whether an agent is good, and whether a change makes it worse."""
