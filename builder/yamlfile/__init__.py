"""YAML as its author wrote it: plain values, the place of each, and none of YAML 1.1's surprises."""
