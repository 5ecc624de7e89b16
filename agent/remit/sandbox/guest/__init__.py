"""What runs inside the sandbox: files that are mounted there and import nothing of Remit."""
