//! Record batch format v2: views, validation, building, compression
