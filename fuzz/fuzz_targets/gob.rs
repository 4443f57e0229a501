//! Any bytes as a stream of Go's `encoding/gob`, as the revoker's RPC port reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis::internals::ext::auth_revoker::read_anything(bytes));
