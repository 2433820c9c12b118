#!/usr/bin/env bash
# The tests themselves: tests.sh WORK_FOLDER. Every function test_* is one test and runs in a shell of its own.
set -euo pipefail
work=$(mktemp -d "$1/run-XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ -z "${BOOTSTRAP:-}" ]; then
  # The broker ends when this shell does, because then the coprocess' standard input closes.
  coproc BROKER { exec "$BROKER" standalone --ephemeral --listen 127.0.0.1:0 --until-stdin-closes 2>>"$BROKER_LOG"; }
  read -r -t 30 ready <&"${BROKER[0]}" || { echo "the broker did not become ready"; exit 1; }
  BOOTSTRAP=$(sed -n 's/.*"bootstrap": *"\([^"]*\)".*/\1/p' <<<"$ready")
fi

produce() { kcat -b "$BOOTSTRAP" -P -X message.timeout.ms=20000 "$@"; }
consume() { timeout 30 kcat -b "$BOOTSTRAP" -C -q -e "$@"; }

# A topic comes into being when somebody asks for its metadata.
topic() {
  local name=$1-$$-$RANDOM
  for _ in $(seq 200); do
    if kcat -b "$BOOTSTRAP" -L -t "$name" | grep -q "partition 0, leader [0-9]"; then
      echo "$name"
      return
    fi
    sleep 0.05
  done
  echo "$name was not created" >&2
  return 1
}

same() { # WHAT EXPECTED FOUND
  [ "$2" = "$3" ] || { printf '%s: expected\n%s\nfound\n%s\n' "$1" "$2" "$3" | cut -c1-400; return 1; }
}

# until COMMAND...: runs COMMAND until it succeeds
until_true() {
  for _ in $(seq 600); do
    if "$@"; then return; fi
    sleep 0.05
  done
  echo "after 30 s still not true: $*"
  return 1
}

for codec in none gzip snappy lz4 zstd; do
  for acks in 0 1 all; do
    eval "test_compression_${codec}_acks_$acks() { round_trip $codec $acks; }"
  done
done

round_trip() {
  local t
  t=$(topic compression)
  head -c 6000 /dev/urandom | base64 -w 100 >"$work/sent"
  produce -t "$t" -z "$1" -X "acks=$2" -l "$work/sent"
  # With acks=0 nothing says when the records are there.
  arrived() { consume -t "$t" -o beginning >"$work/found" && cmp -s "$work/sent" "$work/found"; }
  until_true arrived
}

test_idempotent() {
  local t
  t=$(topic idempotent)
  seq 1000 >"$work/sent"
  produce -t "$t" -X enable.idempotence=true -X batch.num.messages=50 -l "$work/sent"
  same values "$(cat "$work/sent")" "$(consume -t "$t" -o beginning)"
}

test_keys_and_headers() {
  local t found
  t=$(topic keys)
  printf 'k1:v1\nk2:v2\n' | produce -t "$t" -K: -H a=1 -H b=two
  found=$(consume -t "$t" -o beginning -f '%o %k %s %h\n')
  same messages $'0 k1 v1 a=1,b=two\n1 k2 v2 a=1,b=two' "$found"
}

test_null_keys_and_values() {
  local t
  t=$(topic nulls)
  printf 'k:\n:v\n' | produce -t "$t" -Z -K:
  same lengths $'1 -1\n-1 1' "$(consume -t "$t" -o beginning -f '%K %S\n')"
}

test_one_megabyte_record() {
  local t
  t=$(topic large)
  head -c 1000000 /dev/urandom >"$work/large"
  produce -t "$t" -X message.max.bytes=2000000 "$work/large"
  consume -t "$t" -o beginning -c 1 -f '%s' >"$work/found"
  cmp "$work/large" "$work/found"
}

test_message_too_large() {
  local t
  t=$(topic large)
  head -c 1500000 /dev/urandom >"$work/large"
  if produce -t "$t" -X message.max.bytes=2000000 "$work/large" 2>"$work/error"; then return 1; fi
  grep -i "message size too large" "$work/error"
}

test_seek_by_timestamp_and_offsets() {
  local t before
  t=$(topic seek)
  seq 3 | produce -t "$t"
  sleep 0.05
  before=$(date +%s%3N)
  sleep 0.05
  seq 4 6 | produce -t "$t"
  same "offset for the time" "$t [0] offset 3" "$(kcat -b "$BOOTSTRAP" -Q -t "$t:0:$before")"
  same "end offset" "$t [0] offset 6" "$(kcat -b "$BOOTSTRAP" -Q -t "$t:0:-1")"
  same "beginning offset" "$t [0] offset 0" "$(kcat -b "$BOOTSTRAP" -Q -t "$t:0:-2")"
  same "from the time" $'4\n5\n6' "$(consume -t "$t" -o "s@$before")"
  same "the last two" $'5\n6' "$(consume -t "$t" -o -2)"
}

test_offset_out_of_range_reset() {
  local t
  t=$(topic range)
  seq 3 | produce -t "$t"
  same values $'1\n2\n3' "$(consume -t "$t" -o 1000 -X auto.offset.reset=earliest)"
}

test_read_committed() {
  local t
  t=$(topic committed)
  seq 3 | produce -t "$t"
  same values $'1\n2\n3' "$(consume -t "$t" -o beginning -X isolation.level=read_committed)"
}

member() { # NAME GROUP TOPIC...: a group member in the background; its values go to $work/NAME
  local name=$1 group=$2
  shift 2
  # kcat leaves the group when it is asked to end, and a time limit ends it in any case.
  timeout 90 kcat -b "$BOOTSTRAP" -G "$group" -u -X auto.offset.reset=earliest -X session.timeout.ms=6000 \
    -X heartbeat.interval.ms=200 -X partition.assignment.strategy=roundrobin -X auto.commit.interval.ms=100 \
    "$@" >"$work/$name" 2>"$work/$name.log" &
  echo $! >"$work/$name.pid"
}

# has NAME COUNT: the member's last assignment has so many partitions
has() {
  [ "$(grep -E 'assigned:' "$work/$1.log" | tail -n 1 | grep -o '\[[0-9]*\]' | wc -l)" = "$2" ]
}

stop() { # NAME
  local pid
  pid=$(cat "$work/$1.pid")
  kill "$pid"
  wait "$pid" || true
}

test_group_of_three() {
  local group=group-$$-$RANDOM topics=() total
  for i in 1 2 3; do topics+=("$(topic "group$i")"); done
  member one "$group" "${topics[@]}"
  until_true has one 3
  member two "$group" "${topics[@]}"
  member three "$group" "${topics[@]}"
  until_true eval 'has one 1 && has two 1 && has three 1'
  for t in "${topics[@]}"; do seq -f "$t-%g" 20 | produce -t "$t"; done
  total() { [ "$(cat "$work/one" "$work/two" "$work/three" | wc -l)" -ge "$1" ]; }
  until_true total 60
  stop three
  until_true eval '[ "$(cat "$work"/{one,two}.log | grep -c "assigned:")" -ge 5 ]'
  for t in "${topics[@]}"; do seq -f "$t-%g" 21 40 | produce -t "$t"; done
  until_true total 120
  stop one
  stop two
  cat "$work/one" "$work/two" "$work/three" | sort >"$work/found"
  for t in "${topics[@]}"; do seq -f "$t-%g" 40; done | sort | cmp - "$work/found"
}

test_resume_from_commits() {
  local t group=group-$$-$RANDOM
  t=$(topic resume)
  seq 10 | produce -t "$t"
  group() { timeout 30 kcat -b "$BOOTSTRAP" -G "$group" -q -c "$1" -X auto.offset.reset=earliest -X session.timeout.ms=6000 "$t"; }
  same "first part" "$(seq 4)" "$(group 4)"
  same "second part" "$(seq 5 10)" "$(group 6)"
}

test_metadata() {
  local t
  t=$(topic metadata)
  kcat -b "$BOOTSTRAP" -L >"$work/metadata"
  grep -q "topic \"$t\" with 1 partitions" "$work/metadata"
  grep -q "broker [0-9]* at $BOOTSTRAP" "$work/metadata"
}

test_invalid_topic_name() {
  kcat -b "$BOOTSTRAP" -L -t "no good" >"$work/metadata" 2>&1 || true
  grep -i "invalid topic" "$work/metadata"
}

test_unknown_partition() {
  local t
  t=$(topic unknown)
  if echo v | produce -t "$t" -p 77 2>"$work/error"; then return 1; fi
  grep -i "unknown partition" "$work/error"
}

failures=0
for name in $(declare -F | sed -n 's/^declare -f test_//p'); do
  # A shell of its own, so that "set -e" ends a test at its first failing command.
  set +e
  (set -e; "test_$name") >"$work/$name.output" 2>&1
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    echo "ok $name"
  else
    echo "FAIL $name"
    sed 's/^/    /' "$work/$name.output"
    failures=$((failures + 1))
  fi
done
[ "$failures" -eq 0 ]
