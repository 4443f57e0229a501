//! Messages of queues in responses.

use super::streamed::Memory;
use super::*;
use crate::runtime::pipe::{
    CallDecision, CallStep, Message, PipeRequest, Received, Reply, Substitute,
};
use crate::runtime::pipeline::endpoint::{Request, compose, stream_with};
use crate::runtime::request::Notes;

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settlement {
    Returned,
    Settled { good: bool },
}

/// A queue that always has this message.
#[derive(Debug)]
struct Queue(&'static str, Arc<Mutex<Vec<Settlement>>>);

struct Taken(Arc<Mutex<Vec<Settlement>>>, Settlement);

impl Message for Taken {
    fn settle(mut self: Box<Self>, good: bool) {
        self.1 = Settlement::Settled { good };
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
    }
}

impl CallStep for Queue {
    fn is_the_backend(&self) -> bool {
        true
    }

    fn substitute(&self) -> Substitute {
        Substitute::Receive
    }

    fn sees_responses(&self) -> bool {
        false
    }

    fn request<'a>(&'a self, _: &mut PipeRequest) -> Result<CallDecision<'a>, Failure> {
        let body = Bytes::from_static(self.0.as_bytes());
        let message: Box<dyn Message> = Box::new(Taken(Arc::clone(&self.1), Settlement::Returned));
        Ok(CallDecision::Receive(Box::pin(async move {
            Ok(Received {
                reply: Reply::local(StatusCode::OK, HeaderMap::new(), Some(body)),
                message: Some(message),
            })
        })))
    }

    fn response(&self, _: &PipeRequest, _: &mut Reply) -> Result<(), Failure> {
        Ok(())
    }
}

/// What happens to the message `body`, in an endpoint that is composed or streamed, if the client has left or stays.
async fn settlement(body: &'static str, streamed: bool, disconnects: bool) -> Settlement {
    let fates = Arc::new(Mutex::new(Vec::new()));
    let mut backend = backend("/a");
    backend.on_wire = Some(Box::new(Queue(body, Arc::clone(&fates))));
    let endpoint = |work| Endpoint {
        pattern: "/m/{id}".into(),
        method: Method::GET,
        timeout: Duration::from_secs(1),
        cache_control: None,
        steps: Box::default(),
        headers: HeaderRules::endpoint::<&str>(&[]).unwrap(),
        query: QueryRules::endpoint::<&str>(&[]),
        work,
        id: 0,
        observer: None,
        payload: Default::default(),
        response_edits: None,
    };
    let endpoint = if streamed {
        backend.decoder.encoding = Encoded::NoOp;
        endpoint(Work::Stream(Box::new(StreamWork {
            pipes: Box::default(),
            backend,
            static_data: None,
            concurrent_calls: 1,
            upgrade: None,
        })))
    } else {
        endpoint(Work::Compose(Box::new(work([backend]))))
    };
    let mut client = Memory::that_has_disconnected(disconnects);
    let (options, notes) = (options(), Notes::default());
    let request = Request {
        options: &options,
        endpoint: &endpoint,
        notes: &notes,
        body: None,
    };
    let outcome = match &endpoint.work {
        Work::Compose(work) => compose(&mut client, request, work).await,
        Work::Stream(work) => stream_with(&Fake::new(&[]), &mut client, request, work).await,
        Work::Nothing => unreachable!(),
    };
    assert_eq!(matches!(outcome.ending, Ending::Broken), disconnects);
    let fates = fates.lock().unwrap();
    assert_eq!(fates.len(), 1);
    fates[0]
}

#[tokio::test]
async fn a_message_is_confirmed_when_its_response_is_ready() {
    for streamed in [false, true] {
        let settlement = settlement("{\"a\":1}", streamed, false).await;
        assert_eq!(settlement, Settlement::Settled { good: true }, "{streamed}");
    }
    assert_eq!(
        settlement("notjson", false, false).await,
        Settlement::Settled { good: false }
    );
}

/// The message is there at once, so nothing waits in between.
#[tokio::test]
async fn a_message_is_returned_if_the_client_has_disconnected_before_the_response() {
    for streamed in [false, true] {
        let settlement = settlement("{\"a\":1}", streamed, true).await;
        assert_eq!(settlement, Settlement::Returned, "{streamed}");
    }
}
