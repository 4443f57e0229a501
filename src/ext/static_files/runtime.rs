//! A file in place of the response to a call.

use std::sync::Arc;

use http::HeaderMap;

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::files::{Asked, Body, Folder, Served, in_turn, read_whole};
use crate::runtime::pipe::{CallDecision, CallStep, PipeRequest, Reply};

/// The largest body. It equals the default limit of a backend's response.
const MAX_BYTES: u64 = 64 << 20;

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
            let served = in_turn(move || folder.serve(&asked)).await?;
            whole(served).await
        })))
    }

    fn response(&self, _: &PipeRequest, _: &mut Reply) -> Result<(), Failure> {
        Ok(())
    }
}

async fn whole(served: Served) -> Result<Reply, Failure> {
    let body = match served.body {
        Body::Whole(bytes) => bytes,
        Body::Part(file, length) if length <= MAX_BYTES => read_whole(file, length).await?,
        Body::Part(..) => {
            let text =
                "the file is larger than 64 MiB: \"server/static-filesystem\" serves such files";
            return Err(Failure::new(Kind::TooLarge, text));
        }
    };
    let headers: HeaderMap = served.headers.into_iter().collect();
    Ok(Reply::local(served.status, headers, Some(body)))
}
