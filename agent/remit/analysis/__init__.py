"""Questions about rules that no single decision answers: what changes, what is dead, what is tested, what is used."""
