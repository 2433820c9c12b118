//! A small Kafka client for the administration commands
