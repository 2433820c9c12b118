#!/usr/bin/env bash
# Kafka Connect with the connector that reads a file; its test is in the Maven project of ../java.
source "$(dirname "$0")/../common.sh"
java_tests -Dtest=ConnectTest -Dkafka.version=4.3.1
