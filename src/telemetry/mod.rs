//! What we report.
