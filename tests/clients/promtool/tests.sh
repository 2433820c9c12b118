#!/usr/bin/env bash
# The tests themselves: tests.sh WORK_FOLDER. Every function test_* is one test and runs in a shell of its own.
set -euo pipefail
work=$(mktemp -d "$1/run-XXXXXX")
rules=$repo/deploy/prometheus

if [ -z "${BOOTSTRAP:-}" ]; then
  # The broker ends when this shell does, because then the coprocess' standard input closes.
  coproc BROKER { exec "$BROKER" standalone --ephemeral --listen 127.0.0.1:0 --until-stdin-closes 2>>"$BROKER_LOG"; }
  read -r -t 60 ready <&"${BROKER[0]}" || { echo "the broker did not become ready"; exit 1; }
  BOOTSTRAP=$(sed -n 's/.*"bootstrap": *"\([^"]*\)".*/\1/p' <<<"$ready")
fi

# Prometheus scrapes the node and evaluates the rules, each second. It takes a free port, which it tells in its log.
cat >"$work/prometheus.yml" <<END
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$rules/alerts.yml]
scrape_configs:
  - {job_name: chronik, static_configs: [{targets: ["$BOOTSTRAP"]}]}
END
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
  --web.listen-address=127.0.0.1:0 >"$work/prometheus.log" 2>&1 &
prometheus=$!
trap 'kill "$prometheus" 2>/dev/null; wait "$prometheus" 2>/dev/null || true; rm -rf "$work"' EXIT

# until COMMAND...: runs COMMAND until it succeeds
until_true() {
  for _ in $(seq 600); do
    if "$@"; then return; fi
    sleep 0.1
  done
  echo "after 60 s still not true: $*"
  return 1
}

server() { # the address that Prometheus listens at
  sed -n 's/.*msg="Listening on" address=\([0-9.:]*\).*/\1/p' "$work/prometheus.log" | head -n 1
}

ask() { # PATH: an answer of Prometheus
  local address
  address=$(server)
  [ -n "$address" ] && curl -sSf --max-time 20 "http://$address$1"
}

page() { # ACCEPT
  curl -sSf --max-time 20 -H "Accept: $1" "http://$BOOTSTRAP/metrics"
}

test_rules_are_valid() {
  promtool check rules "$rules/alerts.yml"
}

test_rules_alert_when_they_must() {
  promtool test rules "$rules/alerts_test.yml"
}

test_the_page_is_valid() {
  page text/plain >"$work/page"
  grep -q '^chronik_ready 1$' "$work/page"
  promtool check metrics <"$work/page" >"$work/lint" 2>&1 || { cat "$work/lint"; return 1; }
}

test_prometheus_scrapes_open_metrics() {
  page application/openmetrics-text | tail -n 1 | grep -qx '# EOF'
  up() { ask '/api/v1/query?query=up' | grep -q '"value":\[[0-9.]*,"1"\]'; }
  until_true up
}

test_rules_are_evaluated_without_errors() {
  evaluated() {
    ask /api/v1/rules >"$work/rules" && ! grep -q '"health":"unknown"' "$work/rules"
  }
  until_true evaluated
  ! grep -o '"lastError":"[^"]*"' "$work/rules"
  [ "$(grep -o '"health":"ok"' "$work/rules" | wc -l)" -eq "$(grep -c 'alert:' "$rules/alerts.yml")" ]
}

test_a_healthy_node_alerts_nobody() {
  evaluated() { ask /api/v1/rules | grep -q '"health":"ok"'; }
  until_true evaluated
  ask /api/v1/alerts >"$work/alerts"
  grep -q '"alerts":\[\]' "$work/alerts" || { cat "$work/alerts"; return 1; }
}

test_queries_of_the_dashboard_are_valid() {
  up() { ask '/api/v1/query?query=up' >/dev/null; }
  until_true up
  grep -o '"expr": "\([^"\\]\|\\.\)*"' "$repo/deploy/grafana/chronik.json" |
    sed -e 's/^"expr": "//' -e 's/"$//' -e 's/\\"/"/g' -e 's/\$job/chronik/g' -e 's/\$instance/.*/g' -e 's/\$__rate_interval/1m/g' |
    while read -r query; do
      curl -sSf --max-time 20 --get --data-urlencode "query=$query" "http://$(server)/api/v1/query" >/dev/null ||
        { echo "not a query: $query"; exit 1; }
    done
}

failed=0
for test in $(declare -F | sed -n 's/^declare -f test_/test_/p'); do
  # `if (…)` would switch errexit off inside.
  set +e
  (set -e; "$test") >"$work/output" 2>&1
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    echo "ok ${test#test_}"
  else
    echo "FAIL ${test#test_}"
    sed 's/^/    /' "$work/output"
    failed=1
  fi
done
exit "$failed"
