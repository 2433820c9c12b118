//! The HTTP routes: health and metrics
