"""What runs on the host, as root, under its own Python: the standard library and builder.facts, nothing else."""
