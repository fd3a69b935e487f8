#!/bin/sh
# PostgreSQL as its image starts it: root gives the data to postgres and becomes postgres; an empty directory becomes a cluster.
set -eu

setting() { # NAME: the variable's value, or what the file of NAME_FILE holds
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    [ -z "$file" ] || value=$(cat "$file")
    printf %s "$value"
}

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres: {} +
    chmod 0700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(setting POSTGRES_PASSWORD)
    user=$(setting POSTGRES_USER)
    database=$(setting POSTGRES_DB)
    [ -n "$password" ] || { echo "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set" >&2; exit 1; }
    : "${user:=postgres}"
    printf '%s\n' "$password" | initdb --username="$user" --pwfile=/dev/stdin --auth-host=scram-sha-256 --no-instructions
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    pg_ctl --silent --wait --options="-c listen_addresses=''" start
    [ "${database:=$user}" = postgres ] || createdb --username="$user" "$database"
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh) . "$script" ;;
            *.sql) psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$user" --dbname="$database" --file="$script" ;;
        esac
    done
    pg_ctl --silent --wait --mode=fast stop
fi
exec "$@"
