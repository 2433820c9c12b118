#!/usr/bin/env bash
# Schemathesis: what a running node answers to thousands of requests made from its own OpenAPI document, checked against that document.
source "$(dirname "$0")/../common.sh"
python_tests "$@"
