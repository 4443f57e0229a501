# What the commands in this folder share; sourced, not run. Ports: PORT and BACKEND_PORT; binary: BINARY.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=${BINARY:-target/release/portcullis}
port=${PORT:-28080} backend=${BACKEND_PORT:-28090}
lab=$(mktemp -d)
started=()
leave() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$lab"
}
trap leave EXIT

needs() { for program; do command -v "$program" >/dev/null || { echo "missing: $program" >&2; exit 1; }; done; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
await() {
  for _ in $(seq 400); do answers "$1" && return 0; sleep 0.05; done
  echo "nothing listens on $1:" >&2
  tail -n 5 "$lab"/*.log >&2 2>/dev/null || true
  exit 1
}
resident_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }
descriptors() { ls "/proc/$1/fd" | wc -l; }

# A backend that answers /a and /b with a little JSON.
backend() {
  needs nginx
  chmod 755 "$lab"
  printf '{"a":[1,2,3],"user":"u1","note":"%s"}' "$(printf 'x%.0s' $(seq 200))" >"$lab/a"
  printf '{"b":{"x":1}}' >"$lab/b"
  cat >"$lab/backend.conf" <<EOF
worker_processes 1; daemon off; pid $lab/backend.pid; error_log $lab/backend.err crit;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  server { listen 127.0.0.1:$backend backlog=4096; root $lab; } }
EOF
  nginx -c "$lab/backend.conf" &
  started+=($!)
  await "$backend"
}

# The gateway's file; $1 goes into the root as it is.
configure() {
  cat >"$lab/krakend.json" <<EOF
{ "version": 3, "port": $port, "timeout": "5s", "host": ["http://127.0.0.1:$backend"], ${1:-}
  "extra_config": { "telemetry/logging": { "level": "ERROR", "stdout": true } },
  "endpoints": [
    { "endpoint": "/stream/{id}", "output_encoding": "no-op", "backend": [{ "url_pattern": "/a", "encoding": "no-op" }] },
    { "endpoint": "/merge/{id}", "input_query_strings": ["*"],
      "extra_config": { "qos/ratelimit/router": { "client_max_rate": 1000000, "client_capacity": 1000000, "strategy": "header", "key": "X-Who" } },
      "backend": [{ "url_pattern": "/a" }, { "url_pattern": "/b", "group": "b" }] }
  ] }
EOF
}

# Starts the gateway; its process id is in $gateway. Arguments go to `run`. Its log is bounded by the level.
gateway() {
  "$binary" run -c "$lab/krakend.json" "$@" >>"$lab/gateway.log" 2>&1 &
  gateway=$!
  started+=("$gateway")
}
