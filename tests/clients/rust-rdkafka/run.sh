#!/usr/bin/env bash
# Rust over librdkafka: the crate rdkafka. The tests are one of crates/harness, for which librdkafka is built in any case.
source "$(dirname "$0")/../common.sh"
rust_tests "$@"
