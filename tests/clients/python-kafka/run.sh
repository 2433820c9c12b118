#!/usr/bin/env bash
# kafka-python, a client written in Python.
source "$(dirname "$0")/../common.sh"
python_tests "$@"
