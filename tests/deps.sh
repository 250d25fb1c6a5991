#!/bin/sh
# Which crates are in the binary, without a network.
# `deps.sh sbom` lists them from Cargo.lock; `deps.sh check` fails on a licence that is not permissive, on two versions
# of one crate in the binary, and on more crates than an afternoon's reading.
set -eu
most=65
allowed='MIT|Apache-2.0|BSD-3-Clause|ISC|0BSD|Zlib|Unlicense|Unicode-3.0'

tree() {
  ${CARGO:-cargo} tree --locked --offline --edges normal --prefix none --no-dedupe --package ac7 --format "$1" | sort -u
}

sbom() {
  echo "# crate version sha256-of-its-archive"
  awk -F'"' '
    /^name = / { name = $2 }
    /^version = "/ { version = $2 }
    /^checksum = / { print name, version, $2 }' Cargo.lock
}

check() {
  bad=0
  tree '{p}' | sed 's/ (.*//' | awk '{ print $1 }' | uniq -d | while read -r name; do
    echo "two versions of $name are in the binary"
  done | grep . && bad=1
  tree '{p}|{l}' | sed 's/ ([^|]*)|/|/' | while IFS='|' read -r crate licence; do
    # Of alternatives one has to be allowed, of what is joined by AND each part.
    echo "$licence" | sed 's/ WITH LLVM-exception//; s/[()]//g; s/ OR /\//g' | awk -F' AND ' -v allowed="^($allowed)\$" '{
      for (i = 1; i <= NF; i++) {
        ok = 0; n = split($i, one, "/")
        for (j = 1; j <= n; j++) { gsub(/ /, "", one[j]); if (one[j] ~ allowed) ok = 1 }
        if (!ok) exit 1
      }
    }' || echo "$crate: its licence is not among those allowed: ${licence:-none}"
  done | grep . && bad=1
  count=$(tree '{p}' | wc -l)
  if [ "$count" -gt $most ]; then
    echo "$count crates, more than $most"
    bad=1
  fi
  [ $bad = 0 ] && echo "$count crates, one version of each, licences permissive"
  return $bad
}

case ${1:-} in
  sbom) sbom ;;
  check) check ;;
  *) echo "usage: deps.sh sbom|check" >&2; exit 2 ;;
esac
