#!/bin/sh
# `make check-reproducible`: builds the last commit in two places of different names, and compares the binaries byte by
# byte. Takes two release builds.
set -eu
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
unset CARGO_TARGET_DIR
commit=$(git rev-parse HEAD) # that one both times, whatever is committed meanwhile
for place in one a/second-place; do
  mkdir -p "$stage/$place"
  git archive "$commit" | tar -xf - -C "$stage/$place"
  (cd "$stage/$place" && make all)
done
cmp "$stage/one/target/release/ac7" "$stage/a/second-place/target/release/ac7"
echo "both builds have the same $(wc -c <"$stage/one/target/release/ac7") bytes"
