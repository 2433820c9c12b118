#!/usr/bin/env bash
# kafkajs, a client written in JavaScript.
source "$(dirname "$0")/../common.sh"
node_tests
