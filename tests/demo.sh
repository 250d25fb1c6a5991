#!/bin/sh
# `make demo`: curl asks a mock of api.anthropic.com under `ac7 run`; then ac7 shows what it saw.
# Usage: demo.sh DIRECTORY, the one with ac7 and examples/mock-upstream. Nothing outside a temporary directory changes.
set -eu
ac7=$1/ac7
tmp=$(mktemp -d)
"$1/examples/mock-upstream" "$tmp" --encoding gzip --delay-ms 20 >"$tmp/mock" &
mock=$!
trap 'kill "$mock" 2>/dev/null || :; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP

tries=0
until port=$(sed -n 's/^listening on 127\.0\.0\.1://p' "$tmp/mock") && [ -n "$port" ]; do
  tries=$((tries + 1))
  [ "$tries" -le 100 ] || { echo "demo: the mock upstream does not start" >&2; exit 1; }
  sleep 0.1
done

# Where there is no loopback, as in a bare network namespace, the demo takes a namespace of its own and one there.
if ! curl -sk --noproxy '*' --max-time 5 -o "$tmp/probe" "https://127.0.0.1:$port/"; then
  if [ -z "${AC7_DEMO_ALONE:-}" ] && unshare --user --map-root-user --net ip link set lo up 2>"$tmp/why"; then
    kill "$mock"
    rm -rf "$tmp"
    trap - EXIT
    echo "no loopback here: the demo runs in a network namespace of its own"
    AC7_DEMO_ALONE=1 exec unshare --user --map-root-user --net sh -c 'ip link set lo up && exec "$0" "$1"' "$0" "$1"
  fi
  echo "demo: 127.0.0.1 cannot be reached, and the demo cannot make a loopback of its own; ac7 says of it:" >&2
  "$ac7" doctor >&2 || :
  exit 1
fi

export HOME="$tmp" XDG_CACHE_HOME="$tmp/cache" XDG_DATA_HOME="$tmp/data" XDG_CONFIG_HOME="$tmp/config"
cat >"$tmp/request.json" <<'JSON'
{"model": "claude-demo", "max_tokens": 1024, "stream": true,
 "system": "You are the demo. Be brief.",
 "messages": [{"role": "user", "content": "Who is there?"}]}
JSON

echo '$ ac7 run -- curl https://api.anthropic.com/v1/messages …'
"$ac7" run --db "$tmp/demo.db" --upstream-proxy none --ca-cert "$tmp/ca.pem" \
  --connect-to "api.anthropic.com:443:127.0.0.1:$port" -- \
  curl -sS --fail --no-buffer --compressed https://api.anthropic.com/v1/messages \
  -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' \
  -H 'x-api-key: sk-ant-demo-0123456789-0123456789' --data-binary "@$tmp/request.json" >"$tmp/stream"
echo "curl got $(grep -c '^event: ' "$tmp/stream") events. What ac7 saw of it:"

echo
echo '$ ac7 traces'
"$ac7" traces --db "$tmp/demo.db"
"$ac7" traces --db "$tmp/demo.db" --json >"$tmp/traces"
id=$(sed -n '/"kind":"llm_exchange"/s/^{"id":\([0-9]*\),.*/\1/p' "$tmp/traces" | head -n 1)
[ -n "$id" ] || { echo "demo: ac7 captured no model call" >&2; exit 1; }

echo
echo "\$ ac7 traces show $id"
"$ac7" traces show "$id" --db "$tmp/demo.db" >"$tmp/shown" # to a file: no pager
cat "$tmp/shown"
