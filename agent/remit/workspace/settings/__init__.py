"""The settings of the workspace, as `remit.toml` has them.

reading   the settings of a table
notify    the channels to which notifications go
secrets   where secrets come from that other systems keep
serve     where `remit serve` listens, and its limits
"""
