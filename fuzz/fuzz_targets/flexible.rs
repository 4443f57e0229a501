#![no_main]

use portcullis::internals::config::template::{Host, Source, render};
use portcullis::internals::config::{Report, json};

struct World;

impl Host for World {
    fn environment(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "a".to_owned())
    }

    fn partial(&self, name: &str) -> Result<Option<std::sync::Arc<str>>, String> {
        Ok((name == "a").then(|| "part".into()))
    }

    fn zone(&self) -> Option<String> {
        None
    }
}

// No template makes the parser or the evaluator panic; every piece of the result knows its origin.
libfuzzer_sys::fuzz_target!(|text: &str| {
    // A name server must not be called, and keys of 4096 bits take seconds.
    if ["getHostByName", "genPrivateKey", "derivePassword", "bcrypt", "htpasswd"].iter().any(|it| text.contains(it)) {
        return;
    }
    let settings = r#"{"n": 3, "t": "abc", "l": ["b", "a"], "m": {"x": null}}"#;
    let Ok(settings) = json::parse(settings, &Report::new()) else { return };
    let sources = [("base.tmpl", text), ("a.tmpl", "{{ define \"d\" }}{{ . }}{{ end }}")];
    let sources = sources.map(|(name, text)| Source { name: name.to_owned(), text: text.to_owned() });
    match render(&sources, &vec![("s".to_owned(), settings)], &World) {
        Ok(rendered) => {
            for at in (0..rendered.text.len()).step_by(1 + rendered.text.len() / 1000) {
                let (file, offset) = rendered.origin(at).expect("an origin");
                assert!(offset <= sources[file].text.len());
            }
        }
        Err(errors) => assert!(!errors.is_empty()),
    }
});
