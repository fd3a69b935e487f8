"""A first spec for Compose files as they are: `er init --compose`.

What is decided, and why, are values: compose_files finds the files of each stack, request is what the user asks for by
`--domain`, web_service finds the public service and its port, questions gives each request its place or asks for it,
secret_variables (with databases) finds what is a secret, and plan puts it together with what a stack must reach;
spec_file writes it as YAML. messages has the texts. Only compose_files looks at directories; what is asked on a
terminal, and where the answer goes, is builder.cli.init's.
"""
