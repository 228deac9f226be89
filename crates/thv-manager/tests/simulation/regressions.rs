//! Histories that once failed, as small as they get.
