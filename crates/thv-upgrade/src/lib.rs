//! Whether a newer version of a workload exists, and the way to it.
