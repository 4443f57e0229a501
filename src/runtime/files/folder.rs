//! Finds a file for a path, and decides about the response.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    LAST_MODIFIED, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::condition::{ENCODED, Validators, precondition, range_is_current, weight};
use super::name::{Name, names};
use super::range::{self, Part};
use super::{listing, media, open};
use crate::runtime::response::Fields;

const INDEX: &[u8] = b"index.html";

/// A folder whose files are served.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    /// Shows the names in folders without an `index.html`.
    pub listing: bool,
    /// Serves `x.br`, `x.zst` and `x.gz` in place of `x` where the client accepts them.
    pub encoded: bool,
    pub cache_control: HeaderValue,
    /// The file for paths without one, relative to the folder.
    pub fallback: Option<Box<str>>,
}

/// The parts of a request that matter for a file.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// The raw path below the folder.
    pub rest: Box<str>,
    pub query: Option<Box<str>>,
    /// What follows the last slash of the path as the client knows it, raw.
    pub last: Box<str>,
    pub headers: HeaderMap,
}

/// A response.
#[derive(Debug)]
pub struct Served {
    pub status: StatusCode,
    pub headers: Fields,
    pub body: Body,
}

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    Whole(Bytes),
    /// This many bytes of the file, from its current position.
    Part(File, u64),
}

impl Folder {
    /// The folder at `root`. It is opened for each request, because a deployment may replace it.
    pub fn new(root: PathBuf) -> Folder {
        Folder {
            root,
            listing: false,
            encoded: true,
            cache_control: HeaderValue::from_static("no-cache"),
            fallback: None,
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The response to a request. A HEAD gets the body of a GET, which is not sent.
    pub fn serve(&self, asked: &Asked) -> Served {
        if !matches!(asked.method, Method::GET | Method::HEAD) {
            let mut served = text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed");
            let allow = HeaderValue::from_static("GET, HEAD");
            served.headers.push((http::header::ALLOW, allow));
            return served;
        }
        let Some(name) = names(&asked.rest) else {
            return not_found();
        };
        self.named(&name, asked).unwrap_or_else(|error| {
            let status = status(&error);
            if status == StatusCode::INTERNAL_SERVER_ERROR {
                log::error!(
                    "[SERVICE: Gateway] a file below {} cannot be served: {error}",
                    self.root.display()
                );
                return text(status, "500 internal server error");
            }
            not_found()
        })
    }

    fn named(&self, name: &Name, asked: &Asked) -> io::Result<Served> {
        let root = open::root(&self.root)?;
        let found = open::below(&root, &name.relative).and_then(|file| {
            let about = file.metadata()?;
            Ok((file, about))
        });
        match found {
            Ok((file, about)) if about.is_file() && !name.slash => {
                if is_index(&name.relative) {
                    // The folder is the one address of its index, as with Go's file server.
                    return Ok(moved("./".to_owned(), asked));
                }
                self.file(&root, &name.relative, (file, about), asked)
            }
            Ok((file, about)) if about.is_dir() => self.folder(&root, name, &file, asked),
            // A pipe, a device, or a file with a slash behind it.
            Ok(_) => Ok(not_found()),
            Err(error) if is_missing(&error) => match &self.fallback {
                Some(fallback) => self.known(&root, fallback.as_bytes(), asked),
                None => Ok(not_found()),
            },
            Err(error) => Err(error),
        }
    }

    fn folder(
        &self,
        root: &OwnedFd,
        name: &Name,
        folder: &File,
        asked: &Asked,
    ) -> io::Result<Served> {
        if !name.slash {
            // With "./", a colon in the name does not end a scheme.
            return Ok(moved(format!("./{}/", asked.last), asked));
        }
        let mut index = name.relative.clone();
        if !index.is_empty() {
            index.push(b'/');
        }
        index.extend(INDEX);
        match self.known(root, &index, asked) {
            Err(error) if is_missing(&error) => {}
            other => return other,
        }
        if self.listing {
            let mut served = Served {
                status: StatusCode::OK,
                headers: self.usual(HeaderValue::from_static("text/html; charset=utf-8")),
                body: Body::Whole(listing::page(folder)?),
            };
            let policy = HeaderValue::from_static("default-src 'none'");
            served.headers.push((CONTENT_SECURITY_POLICY, policy));
            return Ok(served);
        }
        match &self.fallback {
            Some(fallback) => self.known(root, fallback.as_bytes(), asked),
            None => Ok(not_found()),
        }
    }

    /// A file by its name below the folder.
    fn known(&self, root: &OwnedFd, relative: &[u8], asked: &Asked) -> io::Result<Served> {
        let file = open::below(root, relative)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(ErrorKind::NotFound.into());
        }
        self.file(root, relative, (file, about), asked)
    }

    fn file(
        &self,
        root: &OwnedFd,
        relative: &[u8],
        plain: (File, Metadata),
        asked: &Asked,
    ) -> io::Result<Served> {
        let mut headers = self.usual(media::of(Path::new(OsStr::from_bytes(relative))));
        let mut chosen = plain;
        if self.encoded {
            let (found, sibling) = siblings(root, relative, &asked.headers);
            if found {
                headers.push((VARY, HeaderValue::from_static("Accept-Encoding")));
            }
            if let Some((file, about, encoding)) = sibling {
                headers.push((CONTENT_ENCODING, HeaderValue::from_static(encoding)));
                chosen = (file, about);
            }
        }
        let (file, about) = chosen;
        part(file, &about, headers, asked)
    }

    fn usual(&self, media: HeaderValue) -> Fields {
        Fields::from_iter([
            (CONTENT_TYPE, media),
            (CACHE_CONTROL, self.cache_control.clone()),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ])
    }
}

/// The response with a file, or with a part of it.
fn part(
    mut file: File,
    about: &Metadata,
    mut headers: Fields,
    asked: &Asked,
) -> io::Result<Served> {
    let validators = Validators::of(about);
    if let Ok(tag) = HeaderValue::try_from(&validators.tag) {
        headers.push((ETAG, tag));
    }
    let modified = httpdate::fmt_http_date(validators.modified);
    if let Ok(modified) = HeaderValue::try_from(modified) {
        headers.push((LAST_MODIFIED, modified));
    }
    if let Some(status) = precondition(&asked.headers, &validators) {
        if status == StatusCode::NOT_MODIFIED {
            headers.retain(|(name, _)| *name != CONTENT_TYPE && *name != CONTENT_ENCODING);
        } else {
            headers.clear();
        }
        return Ok(Served {
            status,
            headers,
            body: Body::Whole(Bytes::new()),
        });
    }
    headers.push((ACCEPT_RANGES, HeaderValue::from_static("bytes")));
    let length = about.len();
    let part = match asked.headers.get(http::header::RANGE) {
        Some(value)
            if asked.method == Method::GET && range_is_current(&asked.headers, &validators) =>
        {
            range::parse(value.as_bytes(), length)
        }
        _ => Part::Whole,
    };
    let (status, content_range) = range::head(&part, length);
    headers.extend(content_range);
    let (start, size) = match part {
        Part::Whole => (0, length),
        Part::Some(range) => (range.start, range.end - range.start),
        Part::Beyond => {
            headers.retain(|(name, _)| *name != CONTENT_TYPE && *name != CONTENT_ENCODING);
            (0, 0)
        }
    };
    file.seek(SeekFrom::Start(start))?;
    Ok(Served {
        status,
        headers,
        body: Body::Part(file, size),
    })
}

type Sibling = (File, Metadata, &'static str);

/// Whether the file has encoded siblings, and the one that the client wants most.
fn siblings(root: &OwnedFd, relative: &[u8], headers: &HeaderMap) -> (bool, Option<Sibling>) {
    let mut found = false;
    let mut best: Option<(u16, Sibling)> = None;
    for (ending, encoding) in ENCODED {
        let Ok(file) = open::below(root, &[relative, ending.as_bytes()].concat()) else {
            continue;
        };
        let Some(about) = file.metadata().ok().filter(Metadata::is_file) else {
            continue;
        };
        found = true;
        let weight = weight(headers, encoding);
        if weight > best.as_ref().map_or(0, |(best, _)| *best) {
            best = Some((weight, (file, about, encoding)));
        }
    }
    (found, best.map(|(_, sibling)| sibling))
}

fn is_index(relative: &[u8]) -> bool {
    relative == INDEX || relative.ends_with(b"/index.html")
}

fn is_missing(error: &io::Error) -> bool {
    status(error) == StatusCode::NOT_FOUND
}

fn status(error: &io::Error) -> StatusCode {
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput => StatusCode::NOT_FOUND,
        // A cycle of links, a socket, and a link that changes while it is resolved.
        _ if matches!(
            error.raw_os_error(),
            Some(libc::ELOOP | libc::ENXIO | libc::EAGAIN | libc::EXDEV)
        ) =>
        {
            StatusCode::NOT_FOUND
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A redirect to a reference relative to the path of the request. The query stays.
fn moved(mut reference: String, asked: &Asked) -> Served {
    if let Some(query) = &asked.query {
        reference.push('?');
        reference.push_str(query);
    }
    let mut served = text(StatusCode::MOVED_PERMANENTLY, "");
    match HeaderValue::try_from(reference) {
        Ok(location) => served.headers.push((LOCATION, location)),
        Err(_) => return not_found(),
    }
    served
}

fn not_found() -> Served {
    text(StatusCode::NOT_FOUND, "404 page not found")
}

fn text(status: StatusCode, body: &'static str) -> Served {
    let mut headers = Fields::new();
    if !body.is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.push((CONTENT_TYPE, plain));
    }
    Served {
        status,
        headers,
        body: Body::Whole(Bytes::from_static(body.as_bytes())),
    }
}
