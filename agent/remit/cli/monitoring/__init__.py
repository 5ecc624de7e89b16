"""Commands that say when the runs of an agent change, take too long or cost too much."""
