#![no_main]

use std::path::Component;

use portcullis::internals::ext::martian::{below, range};

// A range lies within its body, and no path leads out of a folder.
libfuzzer_sys::fuzz_target!(|input: (&[u8], u64, &str)| {
    let (value, length, path) = input;
    if let range::Part::Some(part) = range::parse(value, length) {
        assert!(part.start < part.end && part.end <= length);
    }
    if let Some(path) = below(path) {
        assert!(
            path.components()
                .all(|part| matches!(part, Component::Normal(_)))
        );
    }
});
