#!/bin/sh
# Valkey as its image starts it: root gives what lies in the working directory to valkey and becomes valkey.
set -eu
if [ "$(id -u)" = 0 ]; then
    find . ! -user valkey -exec chown valkey: {} +
    exec setpriv --reuid=valkey --regid=valkey --clear-groups "$0" "$@"
fi
umask 0077
exec "$@"
