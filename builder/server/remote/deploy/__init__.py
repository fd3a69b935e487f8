"""What a deploy key may do: `deploy_key` says whose a connection is, `git_push` takes a commit through `git_hook`."""
