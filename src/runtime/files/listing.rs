//! The list of a folder, as an HTML page.

use std::fmt::Write as _;
use std::fs::File;
use std::io;

use bytes::Bytes;
use rustix::fs::{Dir, FileType};

use super::name::is_visible;
use crate::runtime::template::escape;

/// More entries are not shown.
const MOST: usize = 10_000;

/// A list of the visible names in a folder.
pub(super) fn page(folder: &File) -> io::Result<Bytes> {
    let mut names: Vec<(Vec<u8>, bool)> = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if is_visible(name) && names.len() < MOST {
            names.push((name.to_vec(), entry.file_type() == FileType::Directory));
        }
    }
    names.sort();
    let mut out = String::from(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n",
    );
    for (name, is_folder) in names {
        let slash = if is_folder { "/" } else { "" };
        let text = String::from_utf8_lossy(&name);
        // With "./", a colon in a name does not end a scheme.
        out.push_str("<a href=\"./");
        link(&mut out, &name);
        let _ = writeln!(out, "{slash}\">{}{slash}</a>", Escaped(&text));
    }
    out.push_str("</pre>\n");
    Ok(Bytes::from(out))
}

fn link(out: &mut String, name: &[u8]) {
    match std::str::from_utf8(name) {
        Ok(text) => escape::path_segment(out, text),
        Err(_) => name.iter().for_each(|byte| {
            let _ = write!(out, "%{byte:02X}");
        }),
    }
}

/// Text in HTML.
struct Escaped<'t>(&'t str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&#34;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
