//! A file in place of the response to a call.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::files::{Asked, Body, Folder, Served, read_part};
use crate::runtime::pipe::{CallDecision, CallStep, PipeRequest, Reply};
use crate::upstream::budget::Budget;

/// The largest body. It equals the default limit of a backend's response.
const MOST_BYTES: u64 = 64 << 20;

/// Responds to calls with the files of a folder.
#[derive(Debug)]
pub(super) struct FileCall {
    folder: Arc<Folder>,
    /// Cut off the beginning of the path.
    prefix: Box<str>,
}

impl FileCall {
    pub(super) fn new(folder: Folder, prefix: Box<str>) -> FileCall {
        FileCall {
            folder: Arc::new(folder),
            prefix,
        }
    }

    fn asked(&self, request: &PipeRequest) -> Asked {
        let path = &*request.path;
        let rest = path
            .strip_prefix(&*self.prefix)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        Asked {
            method: request.method.clone(),
            last: path.rsplit('/').next().unwrap_or_default().into(),
            rest: match rest.unwrap_or(path) {
                "" => "/".into(),
                rest => rest.into(),
            },
            query: request.query.clone(),
            headers: request.headers.clone(),
        }
    }
}

impl CallStep for FileCall {
    fn is_the_backend(&self) -> bool {
        true
    }

    fn sees_responses(&self) -> bool {
        false
    }

    fn request<'a>(&'a self, request: &mut PipeRequest) -> Result<CallDecision<'a>, Failure> {
        let folder = Arc::clone(&self.folder);
        let asked = self.asked(request);
        Ok(CallDecision::Wait(Box::pin(async move {
            tokio::task::spawn_blocking(move || whole(folder.serve(&asked)))
                .await
                .unwrap_or_else(|_| Err(unreadable()))
        })))
    }

    fn response(&self, _: &PipeRequest, _: &mut Reply) -> Result<(), Failure> {
        Ok(())
    }
}

fn whole(served: Served) -> Result<Reply, Failure> {
    let body = match served.body {
        Body::Whole(bytes) => bytes,
        Body::Part(file, length) if length <= MOST_BYTES => read(file, length)?,
        Body::Part(..) => {
            let text =
                "the file is larger than 64 MiB: \"server/static-filesystem\" serves such files";
            return Err(Failure::new(Kind::TooLarge, text));
        }
    };
    let headers: HeaderMap = served.headers.into_iter().collect();
    Ok(Reply::local(served.status, headers, Some(body)))
}

fn read(mut file: std::fs::File, length: u64) -> Result<Bytes, Failure> {
    let size = usize::try_from(length).map_err(|_| unreadable())?;
    let mut charge = Budget::process().charge();
    charge.cover(size).map_err(|_| Failure::full())?;
    let piece = read_part(&mut file, length, size).map_err(|error| {
        log::error!("[SERVICE: Gateway] a file cannot be read: {error}");
        unreadable()
    })?;
    Ok(charge.settle(BytesMut::from(Bytes::from(piece))))
}

fn unreadable() -> Failure {
    Failure::new(Kind::Rejected, "a file could not be read")
}
