#!/bin/sh
# `make dist`: ac7-VERSION.tar.gz from the last commit and the crates that Cargo.lock names. Needs git and GNU tar.
set -eu
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=ac7-$version
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

git archive --prefix="$name/" HEAD | tar -xf - -C "$stage"
(cd "$stage/$name" && cargo vendor --locked --quiet vendor)
mkdir -p "$stage/$name/.cargo"
cat >>"$stage/$name/.cargo/config.toml" <<'TOML'
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "vendor"

[net]
offline = true
TOML

tar -cf - -C "$stage" --sort=name --format=gnu --mtime="@$(git log -1 --format=%ct)" \
  --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX "$name" | gzip -9n >"$name.tar.gz"
tests/deps.sh sbom >"$name.sbom.txt"
sums() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }
sums "$name.tar.gz" "$name.sbom.txt" >SHA256SUMS
echo "$name.tar.gz: $(wc -c <"$name.tar.gz") bytes; its crates are in $name.sbom.txt, the checksums in SHA256SUMS"
