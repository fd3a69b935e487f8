"""What runs on the host, as root, under its own Python: `main` maps each verb to its module, `common` is shared by all.

Its imports are the standard library, builder.facts, builder.files and builder.problems; nothing else is sent along.
"""
