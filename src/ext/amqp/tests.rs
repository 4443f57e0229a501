use crate::ext::extension::{BackendExtension, BackendPart};
use crate::ext::testing::File;

use super::{CONSUMER, PRODUCER};

fn compiled(extension: &BackendExtension, block: &str) -> (bool, String) {
    let mut file = File::new(block);
    let part = file.backend(extension, "{}");
    let is_step = matches!(part, BackendPart::OnWire(_));
    (is_step && file.config_errors() == 0, file.findings())
}

#[cfg(not(feature = "amqp"))]
#[test]
fn without_the_feature_the_blocks_are_rejected_with_a_hint() {
    for extension in [&CONSUMER, &PRODUCER] {
        let (good, text) = compiled(extension, r#"{ "name": "q", "exchange": "ex" }"#);
        assert!(
            !good && text.contains("without the cargo feature"),
            "{text}"
        );
        assert!(text.contains("--features amqp"), "{text}");
    }
}

#[cfg(feature = "amqp")]
#[test]
fn a_block_without_the_address_of_a_broker_stops_the_start() {
    // The hosts of this test are those of HTTP backends.
    for extension in [&CONSUMER, &PRODUCER] {
        let (good, text) = compiled(extension, r#"{ "name": "q", "exchange": "ex" }"#);
        assert!(
            !good && text.contains("not the address of a broker"),
            "{text}"
        );
    }
}
