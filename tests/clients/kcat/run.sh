#!/usr/bin/env bash
# kcat, the command line client over librdkafka, from Debian's packages unless it is there already.
source "$(dirname "$0")/../common.sh"

packages=$work/packages
if ! command -v kcat >/dev/null; then
  need apt-get "Debian; elsewhere install kcat itself"
  need dpkg "Debian"
  if [ ! -x "$packages/root/usr/bin/kcat" ]; then
    echo "kcat: unpacking Debian's package into $packages"
    rm -rf "$packages"
    mkdir -p "$packages/partial" "$packages/root"
    fetch() {
      apt-get install --download-only -y -qq --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::archives="$packages" kcat >"$packages/apt.log" 2>&1
    }
    fetch || { apt-get update -qq >>"$packages/apt.log" 2>&1 && fetch; } ||
      die "could not fetch the package kcat; see $packages/apt.log"
    for package in "$packages"/*.deb; do dpkg -x "$package" "$packages/root"; done
  fi
  export PATH=$packages/root/usr/bin:$PATH
  LD_LIBRARY_PATH=$(echo "$packages"/root/usr/lib/*-linux-gnu)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
fi

counted '^ok ' '^FAIL ' "$here/tests.sh" "$work"
