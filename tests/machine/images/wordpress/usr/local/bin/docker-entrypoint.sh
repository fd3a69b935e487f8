#!/bin/sh
# A PHP app as WordPress's image starts it: root copies the app into an empty volume and gives it to www-data; php-fpm's
# master stays root, and its workers are of www-data.
set -eu
cd /var/www/html
if [ "$(id -u)" = 0 ]; then
    [ -e index.php ] || tar --create --directory=/usr/src/blog --owner=www-data --group=www-data . | tar --extract
    find wp-content ! -user www-data -exec chown www-data: {} +
fi
exec "$@"
