#!/bin/sh
# nginx as its image starts it: the master stays root, and its workers are of the user nginx.
set -eu
for script in /docker-entrypoint.d/*.sh; do
    [ ! -x "$script" ] || "$script"
done
exec "$@"
