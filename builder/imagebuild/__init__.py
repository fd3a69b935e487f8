"""Images made here from source, by what this machine has: Podman, Buildah or Docker.

`ignored` reads the patterns of an ignore file, `context` the files that count, `build_programs` knows the programs
arguments, and `make` says what an image is made of as one digest, and builds it. Who sends the context elsewhere
imports `context` alone.
"""
