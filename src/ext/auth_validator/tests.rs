//! The validator from outside, and its time.
