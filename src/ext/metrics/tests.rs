use std::time::Duration;

use super::SERVICE;
use crate::ext::testing::File;
use crate::telemetry::stats::{Settings, Stats};

#[test]
fn defaults_are_those_of_krakend() {
    let mut file = File::new("{}");
    file.service(&SERVICE);
    let stats = file.fact::<Stats>().unwrap();
    assert_eq!(
        *stats.settings(),
        Settings {
            collection_time: Duration::from_secs(60),
            listen: Some("127.0.0.1:8090".to_owned()),
            router: true,
            proxy: true,
            backend: true,
        }
    );
    assert_eq!(file.into_tasks().len(), 1);
}

#[test]
fn each_part_can_be_disabled() {
    let mut file = File::new(
        r#"{"proxy_disabled": true, "router_disabled": true, "backend_disabled": true, "endpoint_disabled": true}"#,
    );
    file.service(&SERVICE);
    let settings = file.fact::<Stats>().unwrap().settings().clone();
    assert_eq!(settings.listen, None);
    assert!(!settings.router && !settings.proxy && !settings.backend);
}
