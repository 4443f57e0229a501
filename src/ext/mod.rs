//! One folder for each `extra_config` namespace, and the lists of them.
