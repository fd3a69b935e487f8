"""Every check, in one table: what it is, why, who else asks for it, and what takes a finding away."""

from __future__ import annotations

from typing import Final

from builder.imagecheck.table_instance import INSTANCE
from builder.imagecheck.table_system import SYSTEM
from builder.imagecheck.table_traces import TRACES

# `source` says who else asks: DO is DigitalOcean's image check by the name of its function, goss is the list of
# Kubernetes' image-builder, CIS the chapter of the CIS benchmark for Debian.
CHECKS: Final = (*INSTANCE, *TRACES, *SYSTEM)
IDS: Final = tuple(check.id for check in CHECKS)
