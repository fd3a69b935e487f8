"""Benchmarks: what a host and `er` cost, as ratios within one run. `python -m bench --help`."""
