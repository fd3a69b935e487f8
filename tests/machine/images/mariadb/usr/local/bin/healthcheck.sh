#!/bin/sh
# Whether the server takes connections over TCP, which it does not while it is made.
exec mariadb --user=healthcheck --protocol=tcp --host=127.0.0.1 --execute='SELECT 1' >/dev/null
