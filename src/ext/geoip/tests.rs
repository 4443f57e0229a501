use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::runtime::GeoStep;
use super::testing::database;
use super::{HEADER, Locator, SERVICE};
use crate::ext::extension::ServicePart;
use crate::ext::testing::{File, head};
use crate::runtime::request::Notes;
use crate::runtime::step::ServiceStep as _;

fn madrid() -> Value {
    json!({
        "city": {"geoname_id": 3_117_735, "names": {"de": "Madrid", "en": "Madrid"}},
        "continent": {"code": "EU", "geoname_id": 6_255_148, "names": {"de": "Europa", "en": "Europe"}},
        "country": {"geoname_id": 2_510_769, "is_in_european_union": true, "iso_code": "ES",
            "names": {"de": "Spanien", "en": "Spain"}},
        "location": {"accuracy_radius": 20, "latitude": 40.4, "longitude": -3.7, "time_zone": "Europe/Madrid"},
        "postal": {"code": "28001"},
        "subdivisions": [{"geoname_id": 3_117_732, "iso_code": "MD", "names": {"en": "Madrid"}}]
    })
}

/// A file with this content.
fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn cities() -> tempfile::NamedTempFile {
    written(&database(
        "GeoLite2-City",
        &[
            ("192.0.2.0/24", madrid()),
            ("2001:db8::/32", json!({"country": {"iso_code": "DE"}})),
        ],
    ))
}

#[test]
fn places_have_the_names_and_the_order_of_krakend() {
    let file = cities();
    let locator = Locator::open(file.path().to_owned(), Vec::new()).unwrap();
    let text =
        serde_json::to_string(&locator.place("192.0.2.7".parse().unwrap()).unwrap()).unwrap();
    assert_eq!(
        text,
        r#"{"City":{"GeoNameID":3117735,"Names":{"de":"Madrid","en":"Madrid"}},"Continent":{"Code":"EU","GeoNameID":6255148,"Names":{"de":"Europa","en":"Europe"}},"Country":{"GeoNameID":2510769,"IsInEuropeanUnion":true,"IsoCode":"ES","Names":{"de":"Spanien","en":"Spain"}},"Location":{"AccuracyRadius":20,"Latitude":40.4,"Longitude":-3.7,"MetroCode":0,"TimeZone":"Europe/Madrid"},"Postal":{"Code":"28001"},"RegisteredCountry":{"GeoNameID":0,"IsInEuropeanUnion":false,"IsoCode":"","Names":{}},"RepresentedCountry":{"GeoNameID":0,"IsInEuropeanUnion":false,"IsoCode":"","Names":{},"Type":""},"Subdivisions":[{"GeoNameID":3117732,"IsoCode":"MD","Names":{"en":"Madrid"}}],"Traits":{"IsAnonymousProxy":false,"IsSatelliteProvider":false}}"#
    );
    let mapped = locator.place("::ffff:192.0.2.9".parse().unwrap()).unwrap();
    assert_eq!(mapped, locator.place("192.0.2.7".parse().unwrap()).unwrap());
    let v6 = locator.members("2001:db8::1".parse().unwrap()).unwrap();
    assert_eq!(v6["Country"]["IsoCode"], "DE");
    let private = locator.members("10.0.0.1".parse().unwrap()).unwrap();
    assert_eq!(private["Country"]["IsoCode"], "");
}

#[test]
fn the_header_of_the_client_is_replaced() {
    let file = cities();
    let block = json!({"citydb_path": file.path(), "languages": ["en"]}).to_string();
    let mut file = File::new(&block);
    let ServicePart::Step(step) = file.service(&SERVICE) else {
        panic!("{}", file.findings());
    };
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, HeaderValue::from_static("{\"IsoCode\":\"US\"}"));
    let shown = |client: &str| {
        let mut head = head(&Method::GET, "/a", &headers);
        head.client = client.parse().unwrap();
        let mut notes = Notes::default();
        assert!(step.request(&head, &mut notes).is_none());
        let values: Vec<_> = notes.header_values(&head, &HEADER).collect();
        assert_eq!(values.len(), 1);
        values[0].to_str().unwrap().to_owned()
    };
    let known = shown("192.0.2.1");
    assert!(
        known.contains(r#""IsoCode":"ES""#) && !known.contains("Spanien"),
        "{known}"
    );
    let unknown = shown("198.51.100.1");
    assert!(
        unknown.contains(r#""IsoCode":"""#) && !unknown.contains("US"),
        "{unknown}"
    );
}

#[test]
fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
    let file = cities();
    let locator = Locator::open(file.path().to_owned(), Vec::new()).unwrap();
    let country =
        || locator.members("192.0.2.7".parse().unwrap()).unwrap()["Country"]["IsoCode"].clone();
    let later = |seconds| std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
    let change = |bytes: &[u8], seconds| {
        std::fs::write(file.path(), bytes).unwrap();
        let opened = std::fs::File::options()
            .write(true)
            .open(file.path())
            .unwrap();
        opened.set_modified(later(seconds)).unwrap();
        locator.look();
    };
    change(b"broken", 10);
    assert_eq!(country(), "ES");
    let other = database(
        "GeoIP2-City",
        &[("192.0.2.0/24", json!({"country": {"iso_code": "FR"}}))],
    );
    change(&other, 20);
    assert_eq!(country(), "FR");
}

#[test]
fn a_missing_or_wrong_database_stops_the_start() {
    let country = written(&database("GeoLite2-Country", &[]));
    let broken = written(b"no database");
    for block in [
        json!({}),
        json!({"citydb_path": ""}),
        json!({"citydb_path": "/nowhere/city.mmdb"}),
        json!({"citydb_path": broken.path()}),
        json!({"citydb_path": country.path()}),
        json!({"citydb_path": 7}),
    ] {
        let mut file = File::new(&block.to_string());
        assert!(
            matches!(file.service(&SERVICE), ServicePart::Nothing),
            "{block}"
        );
        assert!(file.config_errors() > 0, "{block}");
    }
}

#[test]
fn one_member_of_an_unexpected_type_does_not_hide_the_others() {
    let of = |record: Value| {
        let file = written(&database("GeoLite2-City", &[("192.0.2.0/24", record)]));
        let locator = Locator::open(file.path().to_owned(), Vec::new()).unwrap();
        let place = locator.place("192.0.2.7".parse().unwrap()).unwrap();
        (serde_json::to_value(&place).unwrap(), locator.doubt())
    };
    // Types that databases other than MaxMind's have. The suffix is one of the writer of the tests.
    let (place, doubt) = of(json!({
        "country": {"iso_code": "RU", "geoname_id:u16": 1},
        "location": {"accuracy_radius:u32": 10, "latitude:f32": 1.5, "longitude:u16": 2, "metro_code:f64": 501.0},
        "postal": {"code:u32": 1234}
    }));
    assert_eq!(place["Country"]["IsoCode"], "RU");
    assert_eq!(place["Country"]["GeoNameID"], 1);
    assert_eq!(place["Location"]["AccuracyRadius"], 10);
    assert_eq!(place["Location"]["Latitude"], 1.5);
    assert_eq!(place["Location"]["Longitude"], 2.0);
    assert_eq!(place["Location"]["MetroCode"], 501);
    assert_eq!(place["Postal"]["Code"], "1234");
    assert_eq!(doubt, None);
    // What cannot be read is absent: an expression about it fails.
    let (place, doubt) = of(json!({
        "city": "Kasan",
        "country": {"iso_code": "RU", "is_in_european_union": "no", "geoname_id": {"a": [1, {"b": 2}]}},
        "location": {"accuracy_radius:u32": 70_000},
        "registered_country": {"iso_code:u16": 643, "names": {"en": "Russia", "de:u16": 5}},
        "subdivisions": [{"iso_code": true}, 7]
    }));
    assert_eq!(place["Country"]["IsoCode"], "RU");
    assert_eq!(place["Country"].get("IsInEuropeanUnion"), None);
    assert_eq!(place["Country"].get("GeoNameID"), None);
    assert_eq!(place.get("City"), None);
    assert_eq!(place["Location"].get("AccuracyRadius"), None);
    assert_eq!(place["RegisteredCountry"].get("IsoCode"), None);
    assert_eq!(place["RegisteredCountry"]["Names"], json!({"en": "Russia"}));
    let doubt = doubt.unwrap();
    for name in [
        "city",
        "country.geoname_id",
        "subdivisions.iso_code",
        "subdivisions,",
    ] {
        assert!(format!("{doubt},").contains(name), "{name}: {doubt}");
    }
}

/// The record of 192.0.2.0/24 cannot be read. It is not among the first, which are read at the start.
pub(crate) fn broken_later() -> Locator {
    let good = json!({"country": {"iso_code": "ES"}});
    let networks: Vec<String> = (0..1200)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
        .collect();
    let mut records: Vec<_> = networks
        .iter()
        .map(|network| (&**network, good.clone()))
        .collect();
    records.push(("192.0.2.0/24", json!({"country": {"iso_code:": 1}})));
    let file = written(&database("GeoLite2-City", &records));
    Locator::open(file.path().to_owned(), Vec::new()).unwrap()
}

#[test]
fn a_record_that_cannot_be_read_is_not_an_empty_one() {
    let locator = broken_later();
    let step = GeoStep(std::sync::Arc::new(locator));
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, HeaderValue::from_static("{\"IsoCode\":\"US\"}"));
    let count = |client: &str| {
        let mut head = head(&Method::GET, "/a", &headers);
        head.client = client.parse().unwrap();
        let mut notes = Notes::default();
        assert!(step.request(&head, &mut notes).is_none());
        notes.header_values(&head, &HEADER).count()
    };
    assert_eq!(count("10.0.0.1"), 1);
    assert_eq!(count("192.0.2.1"), 0);
    // At the start, such a record is an error.
    let first = written(&database(
        "GeoLite2-City",
        &[("192.0.2.0/24", json!({"country": {"iso_code:": 1}}))],
    ));
    let error = Locator::open(first.path().to_owned(), Vec::new()).unwrap_err();
    assert!(error.contains("cannot be read"), "{error}");
}
