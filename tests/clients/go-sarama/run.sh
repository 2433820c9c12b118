#!/usr/bin/env bash
# sarama, with its cluster admin.
source "$(dirname "$0")/../common.sh"
go_tests "$@"
