#![no_main]

use portcullis::ext::lua::Matcher;

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (text, pattern) = input;
    let mut looks = 0;
    let mut is_late = || {
        looks += 1;
        looks > 2
    };
    let mut matcher = Matcher::new(&text, &pattern, &mut is_late);
    if let Ok(Some((start, end))) = matcher.find(0) {
        assert!(start <= end && end <= text.len());
    }
});
