//! A provider on a real socket that can fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[derive(Clone)]
pub(super) enum Mood {
    Responses(Vec<u8>),
    HangsUp,
    Hangs,
}

pub(super) struct Stub {
    pub url: String,
    pub mood: Arc<Mutex<Mood>>,
    calls: Arc<AtomicUsize>,
}

impl Stub {
    pub(super) async fn start(mood: Mood) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Stub {
            url: format!("http://{}/keys", listener.local_addr().unwrap()),
            mood: Arc::new(Mutex::new(mood)),
            calls: Arc::default(),
        };
        let (mood, calls) = (Arc::clone(&stub.mood), Arc::clone(&stub.calls));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (mood, calls) = (Arc::clone(&mood), Arc::clone(&calls));
                tokio::spawn(async move {
                    let mut head = [0_u8; 4096];
                    if !matches!(socket.read(&mut head).await, Ok(1..)) {
                        return;
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                    let mood = mood.lock().unwrap().clone();
                    match mood {
                        Mood::HangsUp => {}
                        Mood::Hangs => std::future::pending().await,
                        Mood::Responses(body) => {
                            let head = format!(
                                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
                                 Content-Length: {}\r\n\r\n",
                                body.len()
                            );
                            let _ = socket.write_all(head.as_bytes()).await;
                            let _ = socket.write_all(&body).await;
                        }
                    }
                });
            }
        });
        stub
    }

    pub(super) fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}
