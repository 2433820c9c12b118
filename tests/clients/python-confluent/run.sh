#!/usr/bin/env bash
# Python over librdkafka: the package confluent-kafka.
source "$(dirname "$0")/../common.sh"
python_tests "$@"
