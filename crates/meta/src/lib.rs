//! The metadata image, its commands, and the log that makes them durable
