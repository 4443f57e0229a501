//! Fan out, collect, merge, under one deadline.
