//! Benchmarks of the project; each bench target is one comparison.
