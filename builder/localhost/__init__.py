"""The machine that er runs on: its cache, its Debian mirror, and what it is missing. Everybody may import this."""
