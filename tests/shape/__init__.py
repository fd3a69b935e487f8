"""The shape of the code, read from its imports: `make shape`.

source     the files of the working tree, or of a revision in git, as text
modules    what is read from them: lines, functions, imports
layers     the table of packages: who may import whom, how many modules each may have; and what breaks it
measures   the numbers of `make shape`, of one tree or of two beside each other
layout     boxes on floors, and lines between them that cross no box
picture    docs/architecture.svg
page       the table in docs/architecture.md

Each imports only from those above it. tests/unit/test_layers.py holds the tree to the table.
"""
