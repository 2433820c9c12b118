#!/usr/bin/env bash
# @confluentinc/kafka-javascript, which is librdkafka for Node.
source "$(dirname "$0")/../common.sh"
# Where its ready-made binary cannot be had, npm compiles librdkafka from the package (a few minutes, once);
# linked dynamically, so that this does not go and fetch the sources of zlib and OpenSSL as well.
node_tests CKJS_LINKING=dynamic
