"""Where the journal is stored: its tables, and the two databases."""
