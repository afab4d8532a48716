#!/bin/bash
# Starts MySQL as the official image does: an empty data directory is initialised from the
# environment first, without listening anywhere.
set -eu
case "${1:-}" in -*) set -- mysqld "$@" ;; esac
data=/var/lib/mysql
if [ "$1" = mysqld ] && [ ! -d "$data/mysql" ]; then
    if [ -z "${MYSQL_ROOT_PASSWORD:-}" ] && [ -z "${MYSQL_ALLOW_EMPTY_PASSWORD:-}" ]; then
        echo "MYSQL_ROOT_PASSWORD or MYSQL_ALLOW_EMPTY_PASSWORD must be set" >&2
        exit 1
    fi
    chown mysql:mysql "$data"
    umask 077
    sql=/var/lib/mysql-files/first-start.sql
    mkdir -p /var/lib/mysql-files
    {
        password=${MYSQL_ROOT_PASSWORD:-}
        password=${password//\\/\\\\}
        password=${password//\'/\\\'}
        echo "ALTER USER root@localhost IDENTIFIED BY '$password';"
        echo "CREATE USER root@'${MYSQL_ROOT_HOST:-%}' IDENTIFIED BY '$password';"
        echo "GRANT ALL ON *.* TO root@'${MYSQL_ROOT_HOST:-%}' WITH GRANT OPTION;"
        if [ -n "${MYSQL_DATABASE:-}" ]; then echo "CREATE DATABASE \`$MYSQL_DATABASE\`;"; fi
    } >"$sql"
    chown -R mysql:mysql /var/lib/mysql-files
    umask 022
    mysqld --no-defaults --user=mysql --datadir="$data" --initialize-insecure --init-file="$sql"
    rm -f "$sql"
fi
if [ "$1" = mysqld ]; then
    shift
    set -- mysqld --user=mysql --datadir="$data" --socket=/var/run/mysqld/mysqld.sock \
        --pid-file=/var/run/mysqld/mysqld.pid --host-cache-size=0 --skip-name-resolve "$@"
fi
exec "$@"
