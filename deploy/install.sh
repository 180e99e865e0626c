#!/usr/bin/env bash
# Installs what a lock file names, and ksql-lake itself, into .venv:  deploy/install.sh LOCK PURPOSE
# With uv (from PATH, else from the package index), which is several times faster; with pip where there is no uv, or
# where WITH=pip asks for it.
set -euo pipefail
lock="$1" purpose="$2" venv="${VENV:-.venv}" python="${PYTHON:-python3}"
bin="$venv/bin"
began=$(date +%s)

say() { echo "install: $*"; }

"$python" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "ksql-lake needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
if ! test -x "$bin/python"; then
  say "a virtual environment in $venv"
  "$python" -m venv "$venv"
fi

by_pip() {
  "$bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock" &&
    "$bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
}

by_uv() {
  # uv does not read pip's settings, so pip's package index is passed on to it.
  for name in index-url extra-index-url find-links; do
    value=$("$bin/python" -m pip config get "global.$name" 2>/dev/null ||
      "$bin/python" -m pip config get ":env:.$name" 2>/dev/null || true)
    case "$name" in
      index-url) test -z "$value" || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$value}" ;;
      extra-index-url) test -z "$value" || export UV_INDEX="${UV_INDEX:-$value}" ;;
      find-links) test -z "$value" || export UV_FIND_LINKS="${UV_FIND_LINKS:-$value}" ;;
    esac
  done
  # The system's certificates, as with pip: a company's proxy may have its own certificate.
  export UV_NATIVE_TLS="${UV_NATIVE_TLS:-1}" UV_LINK_MODE="${UV_LINK_MODE:-copy}"
  "$1" pip install --quiet --python "$bin/python" --require-hashes --requirement "$lock" &&
    "$1" pip install --quiet --python "$bin/python" --no-deps --no-build-isolation --editable .
}

say "$(grep -c '==' "$lock") packages for $purpose, by $lock (once)"
if test "${WITH:-uv}" = pip; then
  by_pip
  say "done in $(($(date +%s) - began)) s, $(du -sm "$venv" | cut -f1) MB in $venv"
  exit
fi
uv=$(command -v uv || true)
if test -z "$uv" && "$bin/python" -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then
  uv="$bin/uv"
fi
if test -z "$uv"; then
  say "uv cannot be had, so pip does it, which takes a few minutes"
  by_pip
elif ! by_uv "$uv"; then
  say "uv could not do it, so pip does it, which takes a few minutes"
  by_pip
fi
say "done in $(($(date +%s) - began)) s, $(du -sm "$venv" | cut -f1) MB in $venv"
