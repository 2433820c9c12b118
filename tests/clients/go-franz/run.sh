#!/usr/bin/env bash
# franz-go with its admin client kadm.
source "$(dirname "$0")/../common.sh"
go_tests "$@"
