#!/usr/bin/env bash
# Apache's Java clients: producer, consumer, admin and Kafka Streams.
source "$(dirname "$0")/../common.sh"
java_tests "-Dtest=${1:-!ConnectTest}"
