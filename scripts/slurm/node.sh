#!/usr/bin/env bash
# One node of a Ray cluster, in the foreground, until it is told to end (SIGTERM) or one of its processes dies.
#     node.sh head FILE [OPTIONS]         FILE gets the cluster's address, HOST:PORT, once others can join
#     node.sh worker ADDRESS [OPTIONS]
# OPTIONS go to `ray start`, the last of two wins: --num-cpus=4 --num-gpus=2 --node-ip-address=10.0.0.7
# BRAID_BIN is the folder with `ray` and `python` (default: .venv/bin of this checkout). With RAY_AUTH_MODE=token and the
# same RAY_AUTH_TOKEN in the environment of all nodes and of `braid train`, nobody else can join the cluster or use it.
set -euo pipefail

say() { printf 'node.sh: %s\n' "$*" >&2; }
if [ $# -lt 2 ]; then
    say "head FILE or worker ADDRESS, then options of ray start"
    exit 2
fi
readonly role=$1 place=$2
shift 2
readonly bin=${BRAID_BIN:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.venv/bin}
if [ ! -x "$bin/ray" ]; then
    say "no $bin/ray on $(hostname); make the environment there (scripts/setup.sh), or set BRAID_BIN"
    exit 2
fi

free_port() {
    "$bin/python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

# A folder of this node's own: many clusters may share a machine. Sockets in it have room for few letters.
temp=$(mktemp -d "${TMPDIR:-/tmp}/braid-XXXXXX")
readonly temp
# Ray chooses every port that it can: 6379, 10001, 10002-19999 and 52365 may be in use.
options=(--block --temp-dir="$temp" --disable-usage-stats
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)
case $role in
head) options+=(--head --port=0 --ray-client-server-port="$(free_port)" --include-dashboard=false) ;;
worker) options+=(--address="$place") ;;
*)
    say "$role: is neither head nor worker"
    exit 2
    ;;
esac
# Ray counts the cores of the machine; Slurm may have given fewer.
[ -z "${SLURM_CPUS_ON_NODE:-}" ] || options+=(--num-cpus="$SLURM_CPUS_ON_NODE")
# No wait at shutdown for services that Braid does not run.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0

stopping=
ray=
end() {
    stopping=1
    [ -z "$ray" ] || kill -TERM "$ray" 2>/dev/null || true
}
trap end TERM INT
"$bin/ray" start "${options[@]}" "$@" &
ray=$!
[ -z "$stopping" ] || end

if [ "$role" = head ]; then
    until [ -s "$temp/ray_current_cluster" ] || ! kill -0 "$ray" 2>/dev/null; do sleep 0.2; done
    if [ -s "$temp/ray_current_cluster" ]; then # atomically: workers wait for this file
        cp "$temp/ray_current_cluster" "$place.partial"
        mv "$place.partial" "$place"
    fi
fi

# `wait` also returns when a signal has been handled.
while kill -0 "$ray" 2>/dev/null; do wait "$ray" || true; done
if [ -n "$stopping" ]; then
    rm -rf "$temp"
    exit 0
fi
say "Ray ended by itself on $(hostname); its logs are in $temp/session_latest/logs"
exit 1
