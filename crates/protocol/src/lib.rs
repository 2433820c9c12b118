//! The Kafka wire protocol: codec, generated messages, framing
