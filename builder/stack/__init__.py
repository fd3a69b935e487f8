"""What spec and Compose files are read into: a stack (model), the host's user for it, the domains it is served at."""
