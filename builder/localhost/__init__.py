"""The machine that er runs on: its cache, its Debian mirror, and which programs it has."""
