//! Serves files below one folder, for `static.Modifier`.
//!
//! A request names a file by the segments of its path, each decoded once. A dot segment, or a segment that contains a
//! separator, is invalid: the path is rejected before the file system is accessed. Symbolic links are followed,
//! because Kubernetes volumes consist of them. Their target is checked twice: before the file is opened, and for the
//! opened file, so that replacing a link in between has no effect.
//!
//! Files are read on request, on a thread for blocking work, and not at start: they may change while the gateway
//! runs, and a folder may be larger than the memory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;

use crate::runtime::failure::Failure;
use crate::runtime::files::range::{self, Part};
use crate::runtime::files::{in_turn, media, read_whole};
use crate::runtime::pipe::{PipeRequest, Reply};

/// The maximum size of a served file, or part of a file. It equals the default limit of a backend's response.
const MAX_BYTES: u64 = 64 << 20;

/// A folder with files.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    /// Files for single decoded paths, relative to the folder.
    explicit: HashMap<Vec<u8>, PathBuf>,
}

impl Files {
    pub(crate) fn new(root: PathBuf, explicit: HashMap<Vec<u8>, PathBuf>) -> Files {
        Files { root, explicit }
    }

    /// The file for a path of a URL, whether it exists or not. `None` if it cannot be below the folder.
    pub(crate) fn locate(&self, path: &str) -> Option<PathBuf> {
        let decoded: Vec<u8> = percent_decode_str(path).collect();
        if let Some(file) = self.explicit.get(&decoded) {
            return Some(self.root.join(file));
        }
        Some(self.root.join(below(path)?))
    }

    /// The response to a request. Reads the file on threads for blocking work.
    ///
    /// # Errors
    /// The process holds too many bytes, or the file could not be read.
    pub(crate) async fn serve(&self, request: Asked) -> Result<Reply, Failure> {
        let Some(file) = self.locate(&request.path) else {
            return Ok(empty(StatusCode::NOT_FOUND));
        };
        let root = self.root.clone();
        let opening = move || opened(&root, &file, &request);
        let found = match in_turn(opening).await? {
            Ok(found) => found,
            Err(status) => return Ok(empty(status)),
        };
        let body = read_whole(found.file, found.size).await?;
        Ok(Reply::local(found.status, found.headers, Some(body)))
    }
}

/// The parts of a request that matter for a file.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub method: Method,
    pub path: Box<str>,
    pub headers: HeaderMap,
}

impl Asked {
    pub(crate) fn of(request: &PipeRequest) -> Asked {
        Asked {
            method: request.method.clone(),
            path: request.path.clone(),
            headers: request.headers.clone(),
        }
    }
}

/// The path of a URL as a relative path. `None` if a segment is not a file name: `.`, `..`, or one that contains a
/// separator or a NUL, literally or encoded.
pub fn below(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name: Vec<u8> = percent_decode_str(segment).collect();
        let is_odd = |byte: &u8| matches!(byte, b'/' | b'\\' | 0);
        if matches!(&*name, b"." | b"..") || name.iter().any(is_odd) {
            return None;
        }
        relative.push(OsStr::from_bytes(&name));
    }
    Some(relative)
}

/// The response before its body is read.
struct Found {
    status: StatusCode,
    headers: HeaderMap,
    /// At the beginning of the part.
    file: File,
    size: u64,
}

fn opened(root: &Path, file: &Path, request: &Asked) -> Result<Found, StatusCode> {
    part(root, file, request).map_err(|error| {
        let status = status(&error);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            log::error!("[Martian] {}: {error}", file.display());
        }
        status
    })
}

fn status(error: &io::Error) -> StatusCode {
    match error.kind() {
        ErrorKind::PermissionDenied => StatusCode::UNAUTHORIZED,
        ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput => StatusCode::NOT_FOUND,
        // A cycle of links is treated like a missing file.
        _ if error.raw_os_error() == Some(libc::ELOOP) => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn part(root: &Path, path: &Path, request: &Asked) -> io::Result<Found> {
    let mut file = open(root, path)?;
    let length = file.metadata()?.len();
    let part = range::asked(&request.method, &request.headers, length);
    let (start, size) = match &part {
        Part::Whole => (0, length),
        Part::Some(range) => (range.start, range.end - range.start),
        Part::Beyond => (0, 0),
    };
    if size > MAX_BYTES {
        return Err(io::Error::other("larger than 64 MiB"));
    }
    file.seek(SeekFrom::Start(start))?;
    let (status, content_range) = range::head(&part, length);
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(CONTENT_TYPE, media::of(path));
    headers.extend(content_range);
    Ok(Found {
        status,
        headers,
        file,
        size,
    })
}

/// Opens a file that is below the folder, after resolving links.
fn open(root: &Path, path: &Path) -> io::Result<File> {
    // The folder itself may be a link that a deployment redirects.
    let root = root.canonicalize()?;
    let real = path.canonicalize()?;
    if !real.starts_with(&root) {
        return Err(ErrorKind::NotFound.into());
    }
    // Non-blocking, because a pipe may have no other end.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&real)?;
    if file.metadata()?.is_file() && is_below(&root, &file, &real) {
        Ok(file)
    } else {
        Err(ErrorKind::NotFound.into())
    }
}

/// Whether the opened file, and not only its path, is below the folder.
#[cfg(target_os = "linux")]
fn is_below(root: &Path, file: &File, _: &Path) -> bool {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(link).is_ok_and(|real| real.starts_with(root))
}

/// Without `/proc`: whether the path still leads to the same file without a link.
#[cfg(not(target_os = "linux"))]
fn is_below(root: &Path, file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |real: PathBuf| {
        let (found, opened) = (real.metadata()?, file.metadata()?);
        let same = found.ino() == opened.ino() && found.dev() == opened.dev();
        Ok::<_, io::Error>(same && real.starts_with(root))
    };
    path.canonicalize().and_then(same).unwrap_or(false)
}

fn empty(status: StatusCode) -> Reply {
    Reply::local(status, HeaderMap::new(), Some(Bytes::new()))
}
