#!/bin/bash
# Starts MariaDB as the official image does: an empty data directory is initialised from the
# environment first, without listening anywhere.
set -eu
case "${1:-}" in -*) set -- mariadbd "$@" ;; esac
[ "$1" != mysqld ] || { shift; set -- mariadbd "$@"; }
data=/var/lib/mysql
password=${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}
host=${MARIADB_ROOT_HOST:-${MYSQL_ROOT_HOST:-%}}
database=${MARIADB_DATABASE:-${MYSQL_DATABASE:-}}
if [ "$1" = mariadbd ] && [ ! -d "$data/mysql" ]; then
    if [ -z "$password" ] && [ -z "${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-}" ]; then
        echo "MARIADB_ROOT_PASSWORD or MARIADB_ALLOW_EMPTY_ROOT_PASSWORD must be set" >&2
        exit 1
    fi
    chown mysql:mysql "$data"
    mariadb-install-db --no-defaults --user=mysql --datadir="$data" --skip-test-db \
        --auth-root-authentication-method=normal >/dev/null
    password=${password//\\/\\\\}
    password=${password//\'/\\\'}
    {
        echo "FLUSH PRIVILEGES;"
        echo "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
        echo "FLUSH PRIVILEGES;"
        echo "ALTER USER root@localhost IDENTIFIED BY '$password';"
        echo "CREATE USER root@'$host' IDENTIFIED BY '$password';"
        echo "GRANT ALL ON *.* TO root@'$host' WITH GRANT OPTION;"
        if [ -n "$database" ]; then echo "CREATE DATABASE \`$database\`;"; fi
    } | mariadbd --no-defaults --user=mysql --datadir="$data" --bootstrap
fi
if [ "$1" = mariadbd ]; then
    shift
    set -- mariadbd --user=mysql --datadir="$data" --socket=/run/mysqld/mysqld.sock \
        --pid-file=/run/mysqld/mysqld.pid --bind-address=0.0.0.0 --skip-name-resolve \
        --character-set-server=utf8mb4 "$@"
fi
exec "$@"
