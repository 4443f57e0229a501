//! The record of an address. It is read with the names of the database and written with KrakenD's names and order.
//! Unknown values are empty and not absent, so that patterns over the text match. Only values of a type that cannot be
//! read are absent, so that an expression about them fails.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;

use super::lenient::{At, Lenient, Maybe};

pub(super) type Names = BTreeMap<String, String>;

/// A postal code, which some databases write as a number.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Code(pub(super) String);

/// Declares a part of the record: for each member its name in the database and that of KrakenD.
macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($member:ident: $kind:ty, $from:literal, $to:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
        #[serde(default)]
        pub(crate) struct $name {
            $(
                #[serde(
                    rename(serialize = $to, deserialize = $from),
                    skip_serializing_if = "Maybe::is_unreadable"
                )]
                $member: Maybe<$kind>,
            )*
        }

        impl Lenient for $name {
            fn of_members<'de, M: MapAccess<'de>>(members: M) -> Result<Option<Self>, M::Error> {
                $name::deserialize(MapAccessDeserializer::new(members)).map(Some)
            }

            fn unreadable(&self, at: Option<&At<'_>>, found: &mut Vec<String>) {
                $(self.$member.unreadable(&At { outer: at, name: $from }, found);)*
            }
        }
    };
}

part!(
    /// The place of an address.
    Place {
        city: City, "city", "City";
        continent: Continent, "continent", "Continent";
        country: Country, "country", "Country";
        location: Location, "location", "Location";
        postal: Postal, "postal", "Postal";
        registered_country: Country, "registered_country", "RegisteredCountry";
        represented_country: RepresentedCountry, "represented_country", "RepresentedCountry";
        subdivisions: Vec<Maybe<Subdivision>>, "subdivisions", "Subdivisions";
        traits: Traits, "traits", "Traits";
    }
);

part!(City {
    id: u32, "geoname_id", "GeoNameID";
    names: Names, "names", "Names";
});

part!(Continent {
    code: String, "code", "Code";
    id: u32, "geoname_id", "GeoNameID";
    names: Names, "names", "Names";
});

part!(Country {
    id: u32, "geoname_id", "GeoNameID";
    is_in_european_union: bool, "is_in_european_union", "IsInEuropeanUnion";
    iso_code: String, "iso_code", "IsoCode";
    names: Names, "names", "Names";
});

part!(Location {
    accuracy_radius: u16, "accuracy_radius", "AccuracyRadius";
    latitude: f64, "latitude", "Latitude";
    longitude: f64, "longitude", "Longitude";
    metro_code: u32, "metro_code", "MetroCode";
    time_zone: String, "time_zone", "TimeZone";
});

part!(Postal {
    code: Code, "code", "Code";
});

part!(RepresentedCountry {
    id: u32, "geoname_id", "GeoNameID";
    is_in_european_union: bool, "is_in_european_union", "IsInEuropeanUnion";
    iso_code: String, "iso_code", "IsoCode";
    names: Names, "names", "Names";
    kind: String, "type", "Type";
});

part!(Subdivision {
    id: u32, "geoname_id", "GeoNameID";
    iso_code: String, "iso_code", "IsoCode";
    names: Names, "names", "Names";
});

part!(Traits {
    is_anonymous_proxy: bool, "is_anonymous_proxy", "IsAnonymousProxy";
    is_satellite_provider: bool, "is_satellite_provider", "IsSatelliteProvider";
});

impl Place {
    /// Keeps the names in these languages.
    pub(super) fn keep(&mut self, languages: &[String]) {
        let keep = |names: Option<&mut Maybe<Names>>| {
            if let Some(names) = names.and_then(Maybe::get_mut) {
                names.retain(|language, _| languages.contains(language));
            }
        };
        keep(self.city.get_mut().map(|part| &mut part.names));
        keep(self.continent.get_mut().map(|part| &mut part.names));
        keep(self.country.get_mut().map(|part| &mut part.names));
        keep(
            self.registered_country
                .get_mut()
                .map(|part| &mut part.names),
        );
        keep(
            self.represented_country
                .get_mut()
                .map(|part| &mut part.names),
        );
        let subdivisions = self.subdivisions.get_mut().into_iter().flatten();
        for part in subdivisions.filter_map(Maybe::get_mut) {
            keep(Some(&mut part.names));
        }
    }

    /// The members of a type that cannot be read, by their names in the database.
    pub(super) fn unreadable_members(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.unreadable(None, &mut found);
        found
    }
}
