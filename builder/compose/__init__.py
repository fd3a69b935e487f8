"""Compose files, read into the contents of a stack.

The way of a key: load reads the files, fills in variables (interpolation, environment) and lays files and services over
each other (merge); keys has a row for it, which calls a parser of service_fields, environment, labels, networking,
ports, depends_on or volumes;
that puts a value into the Draft of its service (draft); finish makes the stack's services, volumes and networks of all
drafts. Under all of them are node (a value with its place, and tables of keys), values (parsers of single values) and
messages. survey says what a file has in it for who makes a spec of it. builder.spec imports what is named below, and
builder.starter also survey, and what environment, labels and ports know of names.
"""

from builder.compose.draft import StackContents
from builder.compose.load import NAMES, load, override

__all__ = ["NAMES", "StackContents", "load", "override"]
