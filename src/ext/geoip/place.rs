//! The record of an address. It is read with the names of the database and written with KrakenD's names and order.
//! Unknown values are empty and not absent, so that patterns over the text match.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

type Names = BTreeMap<String, String>;

/// The place of an address.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
pub(crate) struct Place {
    city: City,
    continent: Continent,
    country: Country,
    location: Location,
    postal: Postal,
    registered_country: Country,
    represented_country: RepresentedCountry,
    subdivisions: Vec<Subdivision>,
    traits: Traits,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct City {
    #[serde(rename(serialize = "GeoNameID", deserialize = "geoname_id"))]
    id: u32,
    names: Names,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct Continent {
    code: String,
    #[serde(rename(serialize = "GeoNameID", deserialize = "geoname_id"))]
    id: u32,
    names: Names,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct Country {
    #[serde(rename(serialize = "GeoNameID", deserialize = "geoname_id"))]
    id: u32,
    is_in_european_union: bool,
    iso_code: String,
    names: Names,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct Location {
    accuracy_radius: u16,
    latitude: f64,
    longitude: f64,
    metro_code: u32,
    time_zone: String,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct Postal {
    code: String,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct RepresentedCountry {
    #[serde(rename(serialize = "GeoNameID", deserialize = "geoname_id"))]
    id: u32,
    is_in_european_union: bool,
    iso_code: String,
    names: Names,
    #[serde(rename(serialize = "Type", deserialize = "type"))]
    kind: String,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct Subdivision {
    #[serde(rename(serialize = "GeoNameID", deserialize = "geoname_id"))]
    id: u32,
    iso_code: String,
    names: Names,
}

#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all(serialize = "PascalCase"))]
struct Traits {
    is_anonymous_proxy: bool,
    is_satellite_provider: bool,
}

impl Place {
    /// Keeps the names in these languages.
    pub(super) fn keep(&mut self, languages: &[String]) {
        let subdivisions = self.subdivisions.iter_mut().map(|one| &mut one.names);
        let all = [
            &mut self.city.names,
            &mut self.continent.names,
            &mut self.country.names,
            &mut self.registered_country.names,
            &mut self.represented_country.names,
        ];
        for names in all.into_iter().chain(subdivisions) {
            names.retain(|language, _| languages.contains(language));
        }
    }
}
