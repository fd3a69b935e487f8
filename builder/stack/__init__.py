"""What spec and Compose files are read into: an app stack, the host's user for it, the domains it is served at."""
