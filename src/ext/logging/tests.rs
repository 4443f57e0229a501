use super::{ACCESS, LOGSTASH, SERVICE};
use crate::ext::testing::File;
use crate::telemetry::access::{self, AccessFormat, Destination, Query};
use crate::telemetry::format::{Format, Level};
use crate::telemetry::logger::{Color, Settings};
use crate::telemetry::syslog::Facility;

fn settings(block: &str) -> Option<Settings> {
    let mut file = File::new(block);
    file.service(&SERVICE);
    assert_eq!(file.config_errors(), 0);
    file.fact::<Settings>()
        .map(|settings| Settings::clone(&settings))
}

#[test]
fn the_level_is_case_insensitive_and_there_may_be_a_prefix() {
    let read = settings(r#"{"level": "Warning", "prefix": "[X]", "stdout": true}"#).unwrap();
    let format = Format::Default {
        prefix: "[X]".to_owned(),
    };
    assert_eq!(
        read,
        Settings {
            level: Level::Warning,
            stdout: true,
            format,
            color: Color::Auto,
            syslog: None,
            gelf: None,
        }
    );
}

#[test]
fn without_a_level_the_plain_log_is_used() {
    assert_eq!(settings(r#"{"level": "LOUD", "stdout": true}"#), None);
    assert_eq!(settings(r#"{"stdout": true}"#), None);
}

#[test]
fn syslog_has_a_facility_and_uses_the_prefix_as_tag() {
    let read = settings(r#"{"level": "INFO", "syslog": true, "prefix": "gw "}"#).unwrap();
    assert_eq!(read.syslog.as_ref().unwrap().facility, Facility::LOCAL3);
    assert_eq!(read.syslog.unwrap().tag, "gw");
    let read = settings(r#"{"level": "INFO", "syslog": true, "syslog_facility": "local7"}"#);
    assert_eq!(
        read.unwrap().syslog.unwrap().facility,
        Facility::parse("local7").unwrap()
    );
}

#[test]
fn formats_are_selected_by_name_and_an_invalid_template_is_an_error() {
    let read = settings(r#"{"level": "INFO", "format": "logstash"}"#).unwrap();
    assert_eq!(read.format, Format::Logstash);
    let block = r#"{"level": "INFO", "format": "custom", "custom_format": "%{message}"}"#;
    assert!(matches!(settings(block).unwrap().format, Format::Custom(_)));
    let mut file = File::new(r#"{"level": "INFO", "format": "custom", "custom_format": "%{x}"}"#);
    file.service(&SERVICE);
    assert_eq!(file.config_errors(), 1);
}

#[test]
fn logstash_turns_lines_into_records_where_there_is_a_logger() {
    let mut file = File::new(r#"{"level": "INFO", "prefix": "gw"}"#);
    file.service(&SERVICE);
    file.service(&LOGSTASH);
    let settings = file.fact::<Settings>().unwrap();
    assert!(matches!(&settings.format, Format::Record { module, .. } if module == "gw"));
    let mut alone = File::new("{}");
    alone.service(&LOGSTASH);
    assert!(alone.fact::<Settings>().is_none());
}

#[test]
fn the_access_log_may_be_json_in_a_file() {
    let mut file = File::new(
        r#"{"format": "json", "output": "/var/log/access.log", "query": "drop", "sample": 0.1}"#,
    );
    file.service(&ACCESS);
    let settings = file.fact::<access::Settings>().unwrap();
    assert_eq!(
        *settings,
        access::Settings {
            format: AccessFormat::Json,
            destination: Destination::File("/var/log/access.log".into()),
            query: Query::Drop,
            sample: 0.1,
            fields: Box::default(),
            claim: None,
        }
    );
    let mut bad = File::new(r#"{"sample": 2}"#);
    bad.service(&ACCESS);
    assert_eq!(bad.config_errors(), 1);
}
