"""`er launch`: servers on AWS. Values and plans here are pure; `door` alone talks to the API."""
