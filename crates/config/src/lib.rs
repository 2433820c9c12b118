//! Every setting: names, types, defaults, sources, validation
