//! Compiles the blocks.

use super::config::{COMPRESSION, COMPRESSION_ENDPOINT, TYPES};
use crate::config::{Block, ConfigError, Data, Extra, size};
use crate::runtime::compression::{self, Coding, Compression, TypePattern};

/// What a file says of compression at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    enabled: bool,
    /// `router.disable_gzip` is true: no block changes this.
    forbidden: bool,
    algorithms: Vec<Coding>,
    min_size: u64,
    gzip: u32,
    br: u32,
    zstd: u32,
    types: Vec<TypePattern>,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting {
            enabled: false,
            forbidden: false,
            algorithms: vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
            min_size: 1024,
            gzip: 5,
            br: 4,
            zstd: 3,
            types: TYPES
                .iter()
                .filter_map(|text| TypePattern::parse(text))
                .collect(),
        }
    }
}

impl Setting {
    /// `None` if nothing is compressed.
    pub(crate) fn compiled(&self) -> Option<Compression> {
        let is_on = self.enabled && !self.forbidden && !self.algorithms.is_empty();
        is_on.then(|| Compression {
            codings: self.algorithms.iter().map(|c| self.of(*c)).collect(),
            min_size: self.min_size,
            types: self.types.clone().into(),
        })
    }

    fn of(&self, coding: Coding) -> compression::Setting {
        let level = match coding {
            Coding::Gzip => self.gzip,
            Coding::Brotli => self.br,
            Coding::Zstd => self.zstd,
        };
        compression::Setting { coding, level }
    }

    /// This setting, changed by a block. A block that is there switches compression on.
    fn with(&self, block: &Block<'_>) -> Setting {
        if self.forbidden {
            block.node().warn(ConfigError::invalid(
                "\"disable_gzip\" of the service's \"router\" is true: nothing is compressed",
            ));
        }
        let level = block.block("level");
        let level = |key: &str, most: i64, inherited: u32| {
            let least = i64::from(key != "br");
            let level = level
                .as_ref()
                .and_then(|level| level.within(key, least, most));
            level
                .and_then(|level| u32::try_from(level).ok())
                .unwrap_or(inherited)
        };
        Setting {
            enabled: block.bool("enabled").unwrap_or(true),
            forbidden: self.forbidden,
            algorithms: algorithms(block).unwrap_or_else(|| self.algorithms.clone()),
            min_size: min_size(block).unwrap_or(self.min_size),
            gzip: level("gzip", 9, self.gzip),
            br: level("br", 11, self.br),
            zstd: level("zstd", 19, self.zstd),
            types: types(block).unwrap_or_else(|| self.types.clone()),
        }
    }
}

/// Compiles the service's block. `disable_gzip` is the key of `router`.
pub(crate) fn service(extra: &Extra<'_>, disable_gzip: Option<bool>) -> Setting {
    let unset = Setting {
        forbidden: disable_gzip == Some(true),
        ..Setting::default()
    };
    match (extra.open(&COMPRESSION), disable_gzip) {
        (Some(block), _) => unset.with(&block),
        (None, Some(false)) => Setting {
            enabled: true,
            algorithms: vec![Coding::Gzip],
            ..unset
        },
        (None, _) => unset,
    }
}

/// Compiles an endpoint's block. `None` without one.
pub(crate) fn endpoint(extra: &Extra<'_>, service: &Setting) -> Option<Setting> {
    let block = extra.open(&COMPRESSION_ENDPOINT)?;
    Some(service.with(&block))
}

fn algorithms(block: &Block<'_>) -> Option<Vec<Coding>> {
    let node = block.get("algorithms")?;
    let mut codings = Vec::new();
    for name in block.texts("algorithms") {
        match Coding::named(&name) {
            Some(coding) if codings.contains(&coding) => {
                node.invalid(format!("{name:?} is configured twice"));
            }
            Some(coding) => codings.push(coding),
            None => node.config_error(ConfigError::NotOneOf {
                found: format!("{name:?}"),
                allowed: "gzip, br, zstd".to_owned(),
            }),
        }
    }
    Some(codings)
}

fn types(block: &Block<'_>) -> Option<Vec<TypePattern>> {
    let node = block.get("types")?;
    let texts = block.texts("types");
    let parsed = texts.iter().filter_map(|text| {
        let parsed = TypePattern::parse(text);
        if parsed.is_none() {
            node.config_error_hint(
                ConfigError::invalid(format!("{text:?} is not a media type")),
                "such as \"text/html\", \"text/*\" or \"application/*+json\"",
            );
        }
        parsed
    });
    Some(parsed.collect())
}

/// 0 compresses bodies of any size.
fn min_size(block: &Block<'_>) -> Option<u64> {
    let node = block.get("min_size")?;
    let read = match &node.value().data {
        Data::Number(text) => text.parse().ok(),
        Data::Text(text) => size::parse(text),
        _ => None,
    };
    if read.is_none() {
        node.config_error_hint(
            ConfigError::invalid(format!("{} is not a size", node.shown())),
            "a number of bytes, or \"1KiB\"",
        );
    }
    read
}
