#!/bin/sh
# The units of ac7 service, as systemd itself sees them: they must be understood, and the machine's one confined.
set -eu
cd "$(dirname "$0")/../src/cli/service"
[ "$(uname -s)" = Linux ] || exit 0 # systemd is where it is for
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for unit in *.service; do
  sed 's|@AC7@|/usr/bin/env|' "$unit" >"$folder/$(echo "$unit" | sed 's/@/@x/')"
done
sed 's|@LISTEN@|[::1]:8443|' ac7.socket >"$folder/ac7.socket"
systemd-analyze verify --man=no "$folder/ac7.service"
mkdir "$folder/ac7.service.d"
cp ac7-socket.conf "$folder/ac7.service.d/socket.conf"
systemd-analyze verify --man=no "$folder/ac7.service" "$folder/ac7.socket"
XDG_RUNTIME_DIR=$folder systemd-analyze --user verify --man=no "$folder/ac7-user.service" "$folder/ac7-run@x.service"
# The exposure is told in tenths: 19 is 1.9.
systemd-analyze security --offline=true --threshold=19 --no-pager "$folder/ac7.service" >"$folder/told" ||
  { cat "$folder/told"; exit 1; }
