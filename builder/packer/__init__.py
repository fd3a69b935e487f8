"""Bakes an image: lays a work directory, runs the `packer` program in it, and delivers what it made."""
