#![no_main]

use portcullis::internals::ext::lua::Matcher;

// A pattern, a zero, and the text in which it is searched.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let (pattern, text) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut looks = 0;
    let mut is_late = || {
        looks += 1;
        looks > 2
    };
    let mut matcher = Matcher::new(text, pattern, &mut is_late);
    if let Ok(Some((start, end))) = matcher.find(0) {
        assert!(start <= end && end <= text.len());
        let _ = matcher.captured();
    }
});
