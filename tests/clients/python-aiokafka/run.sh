#!/usr/bin/env bash
# aiokafka, a client for asyncio.
source "$(dirname "$0")/../common.sh"
python_tests "$@"
