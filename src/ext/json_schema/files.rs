//! Resolves `$ref` to files, at start. The network is never used.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::{Retrieve, Uri};
use percent_encoding::{AsciiSet, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use super::patterns::Patterns;
use crate::named_file;
use crate::runtime::template::escape::DECODED;

/// Schemas are small. A larger file is an error.
const MAX_BYTES: u64 = 16 << 20;

/// Characters of a path that are escaped in a URI.
const PATH: &AsciiSet = &DECODED.add(b'[').add(b']');

/// Reads the files that a schema refers to. As in KrakenD, they are looked up in the working directory, and otherwise
/// next to the file that contains the schema.
#[derive(Debug, Clone)]
pub(super) struct Files {
    working: PathBuf,
    beside: PathBuf,
    /// The schema itself, for references to it from other files.
    root: Option<Arc<Value>>,
    patterns: Patterns,
}

impl Files {
    pub(super) fn new(beside: &Path, patterns: Patterns) -> Files {
        let beside = std::path::absolute(beside).unwrap_or_else(|_| beside.to_owned());
        Files {
            working: std::env::current_dir().unwrap_or_else(|_| beside.clone()),
            beside,
            root: None,
            patterns,
        }
    }

    /// These files, with `schema` at [`Files::root`]. Its draft is that of what refers to it: we take more spellings of
    /// `$schema` than the crate does.
    pub(super) fn with_root(&self, schema: &Value) -> Files {
        let mut schema = schema.clone();
        if let Some(members) = schema.as_object_mut() {
            members.remove("$schema");
        }
        Files {
            root: Some(Arc::new(schema)),
            ..self.clone()
        }
    }

    /// The address of the schema itself. Its references are resolved as from [`Files::base`].
    pub(super) fn root(&self) -> String {
        format!("{}?schema", self.base())
    }

    /// The base of relative references.
    pub(super) fn base(&self) -> String {
        let path = self.working.to_string_lossy();
        let path = utf8_percent_encode(&path, PATH);
        format!("file://{path}/")
    }

    fn read(&self, uri: &str) -> Result<Value, String> {
        if let Some(root) = self.root.as_ref().filter(|_| uri == self.root()) {
            return Ok(Value::clone(root));
        }
        let Some(path) = uri.strip_prefix("file://") else {
            return Err("only files are read, never the network".to_owned());
        };
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| "the path is not UTF-8".to_owned())?;
        let path = self.place(Path::new(&*path));
        let told = |error: &dyn Error| format!("{}: {error}", path.display());
        let text = named_file::read(&path, MAX_BYTES).map_err(|error| told(&error))?;
        let mut schema = serde_json::from_slice(&text).map_err(|error| told(&error))?;
        let translated = self.patterns.translate(&mut schema);
        translated.map_err(|error| told(&error))?;
        Ok(schema)
    }

    fn place(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.working) {
            Ok(rest) if !path.exists() => self.beside.join(rest),
            _ => path.to_owned(),
        }
    }
}

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        self.read(uri.as_str()).map_err(Into::into)
    }
}
