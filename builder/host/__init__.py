"""The host as values."""
