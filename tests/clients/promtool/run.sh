#!/usr/bin/env bash
# The metrics of a running node, the alert rules and the dashboard in deploy/, as Prometheus sees them: its promtool, and Prometheus
# itself, from Debian's package unless they are there already.
source "$(dirname "$0")/../common.sh"

if ! command -v promtool >/dev/null; then
  packages=$work/packages
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "  skipped promtool: it is not installed, and this is not Debian (there it is in the package prometheus)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
  fi
  if [ ! -x "$packages/root/usr/bin/promtool" ]; then
    echo "promtool: unpacking Debian's package prometheus into $packages"
    rm -rf "$packages"
    mkdir -p "$packages/root"
    (cd "$packages" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; }) \
      >"$packages/apt.log" 2>&1 || {
      echo "  skipped promtool: the package prometheus could not be fetched; see $packages/apt.log"
      echo "0 passed, 0 failed, 1 skipped"
      exit 0
    }
    for package in "$packages"/*.deb; do dpkg -x "$package" "$packages/root"; done
  fi
  export PATH=$packages/root/usr/bin:$PATH
fi

export repo
counted '^ok ' '^FAIL ' "$here/tests.sh" "$work"
