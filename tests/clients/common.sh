# Sourced by the run.sh of every client suite, from the suite's own folder:
#   source "$(dirname "$0")/../common.sh"
# Environment:
#   CHRONIK_BIN           the broker binary; each suite starts one of its own
#   BOOTSTRAP             use this running broker instead (HOST:PORT)
#   CHRONIK_CLIENTS_DIR   where installs and caches go (default target/clients of this repository)
#   CHRONIK_SUITE_TIMEOUT seconds that the tests of a suite may take, installs not counted (default 600)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
suite=$(basename "$here")
repo=$(cd "$here/../../.." && pwd)
mkdir -p "${CHRONIK_CLIENTS_DIR:=$repo/target/clients}"
CHRONIK_CLIENTS_DIR=$(cd "$CHRONIK_CLIENTS_DIR" && pwd)
work=$CHRONIK_CLIENTS_DIR/$suite
mkdir -p "$work"
export BROKER_LOG=$work/broker.log

die() {
  echo "$suite: $*" >&2
  exit 2
}

# need TOOL WHAT_IT_COMES_WITH
need() {
  command -v "$1" >/dev/null || die "needs $1 (comes with $2); install it, or leave this suite out"
}

if [ -z "${BOOTSTRAP:-}" ]; then
  [ -n "${CHRONIK_BIN:-}" ] || die "set CHRONIK_BIN to the broker binary, or BOOTSTRAP to a running broker"
  [ -x "$CHRONIK_BIN" ] || die "CHRONIK_BIN=$CHRONIK_BIN is not an executable file"
  BROKER=$(cd "$(dirname "$CHRONIK_BIN")" && pwd)/$(basename "$CHRONIK_BIN")
  export BROKER
fi
# The broker takes every CHRONIK_… in its environment for a setting.
export -n CHRONIK_BIN CHRONIK_CLIENTS_DIR CHRONIK_SUITE_TIMEOUT

# once FILE... -- COMMAND...   runs COMMAND unless it already succeeded with the same FILEs.
once() {
  local files=() stamp=$work/installed
  while [ "$1" != -- ]; do
    files+=("$1")
    shift
  done
  shift
  if [ -f "$stamp" ] && cat "${files[@]}" | cmp -s - "$stamp"; then return; fi
  rm -f "$stamp"
  "$@" || die "installing the client packages failed: $*"
  cat "${files[@]}" >"$stamp"
}

# counted PASS_PATTERN FAIL_PATTERN COMMAND...   runs the tests and closes with "N passed, N failed" (and ", N skipped" if any).
# The patterns pick the lines of the test runner that stand for one test each.
counted() {
  local pass=$1 fail=$2 output=$work/output-$$.log status=0 passed failed skipped
  shift 2
  : >"$BROKER_LOG"
  timeout --kill-after=10 "${CHRONIK_SUITE_TIMEOUT:-600}" "$@" 2>&1 | tee "$output" || status=$?
  passed=$(grep -Ec "$pass" "$output" || true)
  failed=$(grep -Ec "$fail" "$output" || true)
  skipped=$(grep -Ec '^ *skipped ' "$output" || true)
  if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    echo "$suite: the test command ended with exit code $status"
    failed=1
  fi
  mv "$output" "$work/output.log"
  if [ "$failed" -gt 0 ] && [ -s "$BROKER_LOG" ]; then
    echo "$suite: the last lines of the broker's log ($BROKER_LOG):"
    tail -n 20 "$BROKER_LOG"
  fi
  [ "$skipped" -eq 0 ] && skipped= || skipped=", $skipped skipped"
  echo "$passed passed, $failed failed$skipped"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# python_tests   installs requirements.txt into a virtual environment and runs the suite's pytest files.
python_tests() {
  need python3 "Python 3"
  once "$here/requirements.txt" -- install_python_packages
  export PYTHONPATH=$repo/tests/clients PYTHONDONTWRITEBYTECODE=1
  cd "$here"
  counted ' PASSED +\[' ' (FAILED|ERROR) +\[' "$work/venv/bin/python" -m pytest -v --tb=short --color=no --disable-warnings --show-capture=no \
    -p no:cacheprovider -p chronik_pytest "$@"
}

install_python_packages() {
  echo "$suite: installing Python packages into $work/venv"
  rm -rf "$work/venv"
  python3 -m venv "$work/venv" && "$work/venv/bin/pip" --quiet install -r "$here/requirements.txt"
}

# go_tests   compiles and runs the suite's package of the Go module in tests/clients.
go_tests() {
  need go "Go"
  export GOMODCACHE=$CHRONIK_CLIENTS_DIR/go/modules GOCACHE=$CHRONIK_CLIENTS_DIR/go/build
  export GOFLAGS="-buildvcs=false -modcacherw -mod=readonly"
  cd "$repo/tests/clients"
  echo "$suite: compiling"
  go test -c -o "$work/$suite.test" "./$suite" || die "go test -c failed"
  counted '^ *--- PASS: ' '^ *--- FAIL: ' "$work/$suite.test" -test.v -test.timeout 580s "$@"
}

# rust_tests   compiles and runs the test rdkafka_client of crates/harness.
rust_tests() {
  need cargo "Rust"
  cd "$repo"
  # Of the whole workspace, whose other tests use the same build of librdkafka: a crate alone would get one of its own.
  local build=(cargo --quiet test --workspace --test rdkafka_client)
  echo "$suite: compiling"
  "${build[@]}" --no-run || die "cargo test --no-run failed"
  counted '^test .* ok$' '^test .* FAILED$' "${build[@]}" -- --format pretty --color never "$@"
}

# node_tests INSTALL_SETTING…   installs package-lock.json, with the given environment, and runs the suite's tests.js.
node_tests() {
  need node "Node.js"
  need npm "Node.js"
  once "$here/package.json" "$here/package-lock.json" -- install_node_packages "$@"
  export NODE_PATH=$work/node_modules
  cd "$here"
  counted '^ *ok ' '^ *FAIL ' node --test-reporter="$repo/tests/clients/reporter.mjs" \
    --test-reporter-destination=stdout tests.js
}

install_node_packages() {
  echo "$suite: installing npm packages into $work/node_modules"
  cp "$here/package.json" "$here/package-lock.json" "$work/"
  (cd "$work" && env "$@" npm ci --no-audit --no-fund --loglevel=error >"$work/npm.log" 2>&1) ||
    { tail -n 30 "$work/npm.log"; return 1; }
}

# java_tests SETTING…   runs the Maven project in tests/clients/java with these settings.
java_tests() {
  need java "a JDK, 17 or newer"
  need mvn "Maven"
  project=$repo/tests/clients/java
  packages=$CHRONIK_CLIENTS_DIR/maven
  export project packages work
  export -f maven
  # Running no test at all fetches nearly everything that running them takes.
  once "$project/pom.xml" -- install_java_packages "$@"
  counted '^ok ' '^FAIL ' bash -o pipefail -c 'maven test "$@" 2>&1 | sed -u "s/\x1b\[[0-9;]*m//g"' maven "$@"
}

maven() {
  mvn -B -ntp -q -Dstyle.color=never -f "$project/pom.xml" -Dwork="$work/target" \
    -Dmaven.repo.local="$packages" "$@"
}

install_java_packages() {
  echo "$suite: installing packages into $packages"
  maven test "$@" -Dtest=None -Dsurefire.failIfNoSpecifiedTests=false
}
