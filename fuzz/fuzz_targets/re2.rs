#![no_main]

use portcullis::internals::config::re2::{PatternError, sized};

// The crate that matches accepts what RE2 accepts, unless it is too large.
libfuzzer_sys::fuzz_target!(|pattern: &str| {
    if let Err(PatternError::Large(error)) = sized(pattern, 1 << 20) {
        assert!(matches!(error.to_string(), text if text.contains("size limit")));
    }
});
