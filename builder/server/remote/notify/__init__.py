"""What a host tells its operator by itself.

`notices` is the queue, which everything on the host may put a notice into; `rules` judge what was seen, `ledger`
decides what of that is told and when, `watch` is the look at the host that stands on both, with what `audit_log` reads;
`send` takes the queue to the channels, `overview` is what the admin asks. A look and a sending are units of their own,
each sandboxed: the first reaches no network, the second writes nowhere but into its own directory.
"""
