use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// The time of a question that gets an answer, however slow the machine is.
const LONG: Duration = Duration::from_secs(20);

fn inquiry(entries: usize, bytes: usize) -> (Arc<Inquiry<u32>>, Clock) {
    let clock = Clock::manual();
    let size = CacheSize { entries, bytes };
    let made = Inquiry::new("test".to_owned(), size, LONG, clock.clone());
    (Arc::new(made.unwrap()), clock)
}

/// Asks without a client's address.
async fn ask<F: Future<Output = Result<CallResult<u32>, NoAnswer>> + Send + 'static>(
    inquiry: &Arc<Inquiry<u32>>,
    question: u8,
    limit: Duration,
    call: impl FnOnce() -> F,
) -> Result<u32, NoAnswer> {
    inquiry.ask(&[question; 32], Client::ANY, limit, call).await
}

fn told(answer: u32, refusal: bool) -> Result<CallResult<u32>, NoAnswer> {
    Ok(CallResult {
        answer,
        keep: 10 * SECOND,
        bytes: 100,
        refusal,
    })
}

#[test]
fn questions_are_distinguished_by_their_parts_and_by_the_process() {
    let (one, _) = inquiry(1, 1);
    let (other, _) = inquiry(1, 1);
    let ask = |inquiry: &Inquiry<u32>, parts: &[&str]| {
        inquiry.question(parts.iter().map(|part| part.as_bytes()))
    };
    assert_eq!(ask(&one, &["a", "bc"]), ask(&one, &["a", "bc"]));
    assert_ne!(ask(&one, &["a", "bc"]), ask(&one, &["ab", "c"]));
    assert_ne!(ask(&one, &["a"]), ask(&one, &["a", ""]));
    assert_ne!(ask(&one, &["a"]), ask(&other, &["a"]));
}

#[tokio::test]
async fn an_answer_is_cached_for_its_time_and_within_the_limits() {
    let (one, clock) = inquiry(3, 10_000);
    for number in 0..5_u8 {
        let asked = ask(&one, number, LONG, move || async move {
            told(number.into(), false)
        });
        assert_eq!(asked.await, Ok(number.into()));
    }
    let known: Vec<_> = (0..5_u8).filter_map(|n| one.known(&[n; 32])).collect();
    assert_eq!(known, [2, 3, 4], "the oldest are gone");
    clock.advance(10 * SECOND);
    assert_eq!(one.known(&[4; 32]), None);
    let (small, _) = inquiry(100, 500);
    for number in 0..5_u8 {
        let asked = ask(&small, number, LONG, || async { told(1, false) });
        assert_eq!(asked.await, Ok(1));
    }
    let held = (0..5_u8).filter(|n| small.known(&[*n; 32]).is_some());
    assert_eq!(held.count(), 2);
    for _ in 0..50 {
        small.forget(&[4; 32]);
        let asked = ask(&small, 4, LONG, || async { told(1, false) });
        assert_eq!(asked.await, Ok(1));
    }
    let (entries, bytes) = lock(&small.grants).size();
    assert!(entries <= 100 && bytes <= 500);
}

#[tokio::test]
async fn negative_answers_do_not_evict_positive_ones() {
    let (one, _) = inquiry(10, 10_000);
    let asked = ask(&one, 0, LONG, || async { told(7, false) });
    assert_eq!(asked.await, Ok(7));
    for number in 0..20_000_u32 {
        let mut question = [1; 32];
        question[..4].copy_from_slice(&number.to_be_bytes());
        let asked = one.ask(&question, Client::ANY, LONG, || async { told(0, true) });
        assert_eq!(asked.await, Ok(0));
    }
    assert_eq!(one.known(&[0; 32]), Some(7));
    assert!(lock(&one.refusals).size().0 <= CacheSize::REFUSALS.entries);
}

#[tokio::test]
async fn equal_questions_are_asked_once() {
    let (one, _) = inquiry(10, 10_000);
    let asked = Arc::new(AtomicU64::new(0));
    let all = (0..20).map(|_| {
        let asked = Arc::clone(&asked);
        ask(&one, 0, LONG, || async move {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            told(7, false)
        })
    });
    let answers = futures::future::join_all(all).await;
    assert!(answers.iter().all(|answer| *answer == Ok(7)));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// The number of calls that `count` questions cause at a server with this answer.
async fn reach(one: &Arc<Inquiry<u32>>, count: u8, answer: &Result<u32, NoAnswer>) -> u64 {
    let calls = Arc::new(AtomicU64::new(0));
    for number in 0..count {
        let (calls, answer) = (Arc::clone(&calls), answer.clone());
        let asked = ask(one, number, LONG, || async move {
            calls.fetch_add(1, Ordering::Relaxed);
            answer.and_then(|answer| told(answer, true))
        });
        assert!(asked.await.is_err());
    }
    calls.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_failing_server_is_not_called_and_every_wait_ends() {
    let (one, clock) = inquiry(10, 10_000);
    let down = Err(NoAnswer::status(StatusCode::BAD_GATEWAY));
    assert_eq!(reach(&one, 20, &down).await, MAX_FAILURES);
    clock.advance(PAUSE + SECOND);
    let never = ask(&one, 99, Duration::from_millis(20), || {
        std::future::pending::<Result<CallResult<u32>, NoAnswer>>()
    });
    assert_eq!(never.await, Err(NoAnswer::LATE));
}

#[tokio::test]
async fn a_response_about_one_question_is_not_a_failure_of_the_server() {
    let (one, _) = inquiry(10, 10_000);
    for status in [400, 403, 404, 413, 429] {
        let status = StatusCode::from_u16(status).unwrap();
        let odd = Err(NoAnswer::status(status));
        assert_eq!(reach(&one, 20, &odd).await, 20, "{status}");
    }
    let odd = Err(NoAnswer::response("no JSON"));
    assert_eq!(reach(&one, 20, &odd).await, 20);
}

#[tokio::test]
async fn an_early_deadline_or_a_closed_client_is_not_a_failure_of_the_server() {
    let (one, _) = inquiry(10, 10_000);
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        told(7, false)
    };
    for number in 0..10 {
        let late = ask(&one, number, Duration::from_millis(5), slow);
        assert_eq!(late.await, Err(NoAnswer::LATE));
        let gone = ask(&one, 10 + number, LONG, slow);
        assert!(timeout(Duration::from_millis(5), gone).await.is_err());
    }
    assert_eq!(ask(&one, 99, LONG, slow).await, Ok(7));
    let went_on = async {
        while one.known(&[19; 32]) != Some(7) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(LONG, went_on).await.is_ok(), "the call went on");
}

#[tokio::test]
async fn a_server_that_is_too_slow_has_failed() {
    let (one, _) = inquiry(10, 10_000);
    let one = Arc::into_inner(one).unwrap();
    let call_timeout = Duration::from_millis(10);
    let one = Arc::new(Inquiry {
        call_timeout,
        ..one
    });
    for number in 0..20 {
        let hangs = ask(&one, number, LONG, || {
            std::future::pending::<Result<CallResult<u32>, NoAnswer>>()
        });
        assert!(hangs.await.is_err());
    }
    let asked = ask(&one, 99, LONG, || async { told(7, false) });
    assert!(asked.await.is_err(), "it is not called for a while");
}

#[tokio::test]
async fn questions_with_an_earlier_positive_answer_have_separate_turns() {
    let (one, clock) = inquiry(10, 10_000);
    let asked = ask(&one, 0, LONG, || async { told(7, false) });
    assert_eq!(asked.await, Ok(7));
    clock.advance(20 * SECOND);
    let flood = (0..200_u8).map(|number| {
        let one = Arc::clone(&one);
        tokio::spawn(async move {
            ask(&one, 50 + number, LONG, || async {
                std::future::pending::<()>().await;
                told(0, true)
            })
            .await
        })
    });
    let flood: Vec<_> = flood.collect();
    tokio::task::yield_now().await;
    let asked = ask(&one, 0, LONG, || async { told(8, false) });
    assert_eq!(asked.await, Ok(8));
    let busy = ask(&one, 1, Duration::from_millis(50), || async {
        told(9, false)
    });
    assert_eq!(busy.await, Err(NoAnswer::BUSY));
    flood.into_iter().for_each(|one| one.abort());
}
