#!/bin/sh
# MariaDB as its image starts it: root gives the data to mysql and becomes mysql; an empty directory becomes a database.
set -eu

setting() { # NAME: the variable's value, or what the file of NAME_FILE holds
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    [ -z "$file" ] || value=$(cat "$file")
    printf %s "$value"
}

if [ "$(id -u)" = 0 ]; then
    mkdir -p /run/mysqld
    find /var/lib/mysql /run/mysqld ! -user mysql -exec chown mysql: {} +
    exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" "$@"
fi

if [ ! -d /var/lib/mysql/mysql ]; then
    root=$(setting MARIADB_ROOT_PASSWORD)
    user=$(setting MARIADB_USER)
    password=$(setting MARIADB_PASSWORD)
    database=$(setting MARIADB_DATABASE)
    [ -n "$root" ] || { echo "MARIADB_ROOT_PASSWORD or MARIADB_ROOT_PASSWORD_FILE must be set" >&2; exit 1; }
    mariadb-install-db --skip-test-db --skip-name-resolve --auth-root-authentication-method=normal >/dev/null
    mariadbd --skip-networking &
    until mariadb-admin --user=root ping >/dev/null 2>&1; do sleep 0.2; done
    mariadb --user=root <<SQL
CREATE DATABASE \`$database\`;
CREATE USER '$user'@'%' IDENTIFIED BY '$password';
GRANT ALL ON \`$database\`.* TO '$user'@'%';
CREATE USER 'healthcheck'@'127.0.0.1' IDENTIFIED BY '';
ALTER USER 'root'@'localhost' IDENTIFIED BY '$root';
SQL
    for script in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -e "$script" ] || mariadb --user=root --password="$root" "$database" <"$script"
    done
    mariadb-admin --user=root --password="$root" shutdown
    wait
fi
exec "$@"
