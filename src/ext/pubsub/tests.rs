use serde_json::json;

use super::{PUBLISHER, SUBSCRIBER};
use crate::ext::extension::{BackendExtension, BackendPart};
use crate::ext::testing::File;

fn compiled(extension: &BackendExtension, key: &str, url: &str) -> (bool, String) {
    let block = json!({ key: url }).to_string();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "A"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("PUBSUB_EMULATOR_HOST", "127.0.0.1:1"),
    ];
    let mut file = File::in_environment(&block, variables);
    let part = file.backend(extension, "{}");
    let is_step = matches!(part, BackendPart::OnWire(_));
    assert_eq!(
        is_step,
        file.config_errors() == 0,
        "{url}: {}",
        file.findings()
    );
    (is_step, file.findings())
}

#[test]
fn addresses_of_topics_are_read_as_in_krakend() {
    for url in [
        "awssns:///arn:aws:sns:eu-west-1:1:t",
        "awssqs://sqs.eu-west-1.amazonaws.com/1/q?region=eu-west-2",
        "gcppubsub://projects/p/topics/t?max_send_batch_size=10",
        "gcppubsub://p/t",
    ] {
        let (good, text) = compiled(&PUBLISHER, "topic_url", url);
        assert!(good, "{url}: {text}");
    }
    #[cfg(feature = "nats")]
    for url in [
        "nats://orders/new?natsv2",
        "nats://a.b.c",
        "nats://a?natsv2=true",
    ] {
        let (good, text) = compiled(&PUBLISHER, "topic_url", url);
        assert!(good, "{url}: {text}");
    }
    #[cfg(feature = "nats")]
    for url in ["nats://orders.*?queue=g&natsv2", "nats://orders.>"] {
        let (good, text) = compiled(&SUBSCRIBER, "subscription_url", url);
        assert!(good, "{url}: {text}");
    }
    for url in [
        "awssqs://sqs.eu-west-1.amazonaws.com/1/q?raw=true&waittime=5s&nacklazy",
        "gcppubsub://projects/p/subscriptions/s?nacklazy=true",
        "gcppubsub://p/s",
    ] {
        let (good, text) = compiled(&SUBSCRIBER, "subscription_url", url);
        assert!(good, "{url}: {text}");
    }
}

#[test]
fn an_address_that_cannot_work_stops_the_start_with_a_hint() {
    for (url, words) in [
        ("orders", "are not an address"),
        ("kafka://orders", "no client for Kafka"),
        ("azuresb://orders", "no client for Azure Service Bus"),
        ("mem://orders", "the scheme is unknown"),
        ("awssns:///orders", "not the address of a topic"),
        ("awssqs://orders", "not the address of a queue"),
        ("awssqs://sqs.x.amazonaws.com/1/q?raw=true", "no option"),
        (
            "awssqs://sqs.x.amazonaws.com/1/q?fips=true",
            "fips is not supported",
        ),
        (
            "awssqs://sqs.x.amazonaws.com/1/q?anonymous=maybe",
            "true or false",
        ),
        (
            "gcppubsub://projects/p/subscriptions/s",
            "not an address of topics",
        ),
        (
            "gcppubsub://projects/p/topics/a b",
            "characters that Google",
        ),
        ("gcppubsub://p/t?max_send_batch_size=0", "from 1 to 1000"),
        ("gcppubsub://", "names neither a topic"),
        #[cfg(not(feature = "nats"))]
        ("nats://orders", "without the cargo feature"),
        #[cfg(feature = "nats")]
        ("nats://orders?natsv2=false", "KrakenD's older form"),
        #[cfg(feature = "nats")]
        ("nats://orders..new", "is not a subject"),
        #[cfg(feature = "nats")]
        ("nats://orders.*", "one subject"),
        #[cfg(feature = "nats")]
        ("nats://orders?queue=a", "no option"),
    ] {
        let (good, text) = compiled(&PUBLISHER, "topic_url", url);
        assert!(!good && text.contains(words), "{url}: {text}");
    }
    for (url, words) in [
        ("awssns:///arn:aws:sns:eu-west-1:1:t", "subscribe a queue"),
        (
            "awssqs://sqs.x.amazonaws.com/1/q?waittime=1m",
            "20s at most",
        ),
        ("gcppubsub://p/t?max_send_batch_size=1", "no option"),
    ] {
        let (good, text) = compiled(&SUBSCRIBER, "subscription_url", url);
        assert!(!good && text.contains(words), "{url}: {text}");
    }
}
