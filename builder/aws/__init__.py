"""Servers on AWS. `api` alone talks to it, and knows the operations by the table in `permissions`.

A `request` (spec and options) is looked up in the account: `machine_image`, `subnet`, the Route 53 zones of `dns`, and
what is `existing` already. `resources` has one module for each kind of resource that a server consists of, and the
table of them; what exists is found by its tags (`tags`), so there is no state file.

On these stand the commands: `plan` (the dry run), `launch`, `replace` (data and address move to another server), and
`destroy` (also what exists). After a launch, `readiness` waits for the first boot, which it reads on the serial
`console`, and for every domain; `known_hosts` keeps the host keys. `errors` has the texts for what AWS refuses. Only
builder.cli imports from here, and builder.packer the tags of an image.
"""
