#!/usr/bin/env bash
# Sets up all that this project needs on a Debian machine: system packages and .venv. Safe to repeat;
# says nothing much and takes a second when nothing is missing.
#
#   scripts/setup.sh run   what the demo and a worker need
#   scripts/setup.sh dev   that, and what the tests, the checks and the benchmarks need
#
# Debian's own database and Docker services are not started by the installation, and none that already
# runs is stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"

mode=${1:-}
case "$mode" in run | dev) ;; *) echo "usage: scripts/setup.sh run|dev" >&2; exit 2 ;; esac

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

RUN_PACKAGES="ca-certificates git gzip make mariadb-client mariadb-server openssl postgresql postgresql-client procps"
DEV_PACKAGES="build-essential busybox-static chromium curl debootstrap docker.io docker-registry iproute2 iptables jq libfaketime mariadb-backup mydumper pigz
    postgresql-contrib restic tar zstd"
# For the tests' n8n. Node's own packages bring an npm, which Debian's conflicts with.
command -v npm >/dev/null || DEV_PACKAGES="$DEV_PACKAGES npm"

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root: run it as root, or install sudo"
    fi
}

# Packages of the arguments that dpkg does not list as installed. A package that another one provides
# (default-mysql-client and the like) is not looked for: the names above are real ones.
missing_packages() {
    local installed package
    installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | sed -n 's/^ii *//p')
    for package in "$@"; do
        grep -qxF "$package" <<<"$installed" || echo "$package"
    done
}

# A mirror in the middle of an update, or another apt at work, passes: wait and try again.
apt_get() {
    local try
    for try in 1 2 3 4 5; do
        if as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -o DPkg::Lock::Timeout=300 \
            -o Acquire::Retries=3 "$@" </dev/null >"$apt_log" 2>&1; then
            return 0
        fi
        [ "$try" = 5 ] && break
        say "apt-get $1 failed (try $try of 5), trying again in $((try * 5)) s"
        sleep $((try * 5))
        [ "$1" = update ] || as_root apt-get -qq update >>"$apt_log" 2>&1 || true
    done
    tail -n 20 "$apt_log" >&2
    fail "apt-get $1 failed; its last lines are above"
}

# While packages are installed, no service may start: the project runs private servers on free ports, and
# a machine that did not run MariaDB or PostgreSQL before should not do so afterwards.
policy=/usr/sbin/policy-rc.d
remove_policy() {
    if [ -n "${policy_is_ours:-}" ]; then as_root rm -f "$policy"; fi
    rm -f "${apt_log:-}"
}
trap remove_policy EXIT

install_packages() {
    command -v apt-get >/dev/null || fail "no apt-get here; install by hand: $*"
    say "installing $*"
    apt_log=$(mktemp)
    if [ ! -e "$policy" ]; then
        policy_is_ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    apt_get update
    apt_get install -y --no-install-recommends "$@"
    keep_services_off "$@"
}

# An enabled unit would start at the next boot.
keep_services_off() {
    command -v systemctl >/dev/null || return 0
    local package unit
    for package in "$@"; do
        case "$package" in
        mariadb-server) unit=mariadb.service ;;
        postgresql) unit=postgresql.service ;;
        docker-registry) unit=docker-registry.service ;;
        docker.io) unit="docker.service docker.socket containerd.service" ;;
        *) continue ;;
        esac
        # shellcheck disable=SC2086
        as_root systemctl disable $unit >/dev/null 2>&1 || true
    done
}

# The Python the locks were compiled with, else a later one, that can make a virtual environment.
find_python() {
    local name
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if command -v "$name" >/dev/null && "$name" -c '
import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
}

system_packages() {
    local packages=$RUN_PACKAGES wanted
    [ "$mode" = run ] || packages="$packages $DEV_PACKAGES"
    # shellcheck disable=SC2086
    wanted=$(missing_packages $packages | xargs)
    [ -n "$(find_python)" ] || wanted="$wanted python3 python3-venv"
    # shellcheck disable=SC2086
    [ -z "$wanted" ] || install_packages $wanted
}

# One hash over what the environment was made from: the lock, the project's own metadata, the interpreter
# and the place (a moved .venv does not work).
stamp() { { cat "$1" pyproject.toml; "$python" -VV; pwd; } | sha256sum | cut -d' ' -f1; }

environment() {
    python=$(find_python)
    [ -n "$python" ] || fail "no Python 3.11 or later with venv; set PYTHON to one"
    local lock=requirements/$mode.txt try
    # What dev installs holds all of run.
    for done_for in "$mode" dev; do
        if [ "$(cat ".venv/stamp-$done_for" 2>/dev/null)" = "$(stamp "requirements/$done_for.txt")" ]; then return 0; fi
    done
    if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null ||
        [ "$(cat .venv/made-by 2>/dev/null)" != "$("$python" -VV) $(pwd)" ]; then
        say "making .venv with $("$python" -V)"
        rm -rf .venv
        "$python" -m venv .venv
        echo "$("$python" -VV) $(pwd)" >.venv/made-by
    fi
    rm -f .venv/stamp-*
    say "installing Python packages from $lock"
    for try in 1 2 3; do
        # The lock names everything: resolved anew, a newer release of what it pins could be chosen, and refused.
        if .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock" \
            </dev/null && complete; then
            break
        fi
        [ "$try" -lt 3 ] || fail "pip could not install $lock; its own words are above"
        say "pip failed (try $try of 3), trying again"
        sleep 5
    done
    local words
    words=$(.venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . \
        </dev/null 2>&1) || { printf '%s\n' "$words" >&2; fail "the project itself could not be installed"; }
    stamp "$lock" >".venv/stamp-$mode"
}

# Is all there that the installed packages need?
complete() {
    local words
    words=$(.venv/bin/python -m pip check --disable-pip-version-check 2>&1) || { printf '%s\n' "$words" >&2; return 1; }
}

system_packages
environment
say "ready ($mode)"
