use super::*;

fn lanes(number: usize) -> &'static Lanes {
    Box::leak(Box::new(Lanes::new(number)))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn lanes_are_limited_and_returned() {
    let lanes = lanes(1);
    let first = lanes.enter(soon(), 1).unwrap();
    let late = Instant::now() + Duration::from_millis(5);
    assert_eq!(lanes.enter(late, 1).err(), Some(Cut::Deadline));
    assert_eq!(lanes.enter(soon(), 0).err(), Some(Cut::Busy));
    drop(first);
    assert!(lanes.enter(late, 1).is_ok());
    assert_eq!(lanes.queue().running, 0);
    assert!(lanes.queue().waiting.is_empty());
}

#[tokio::test]
async fn few_large_bodies_have_a_turn() {
    let late = || tokio::time::Instant::now() + Duration::from_millis(5);
    let mut turns = Vec::new();
    for _ in 0..LANES.number + 1 {
        turns.push(turn(LARGE, soon().into()).await.unwrap());
    }
    assert_eq!(turn(LARGE, late()).await.err(), Some(Cut::Deadline));
    assert!(turn(LARGE - 1, late()).await.unwrap().is_none());
    turns.pop();
    assert!(turn(LARGE, soon().into()).await.unwrap().is_some());
}

#[test]
fn long_work_lets_waiting_work_run() {
    let lanes = lanes(1);
    let mut first = lanes.enter(soon(), 8).unwrap();
    let other = std::thread::spawn(move || drop(lanes.enter(soon(), 8).unwrap()));
    while lanes.queue().waiting.is_empty() {
        std::thread::yield_now();
    }
    first.next_turn(soon()).unwrap();
    other.join().unwrap();
    drop(first);
    assert_eq!(lanes.queue().running, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn heavy_work_does_not_block_the_only_worker() {
    let heavy = tokio::spawn(async {
        let mut heavy = Heavy::until(Instant::now() + Duration::from_secs(3));
        while heavy.look().is_ok() {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
    });
    // A blocked worker gives a turn to one or two of them, and a machine that stalls still to thousands.
    let mut others = 0;
    while !heavy.is_finished() {
        tokio::spawn(async {}).await.unwrap();
        others += 1;
    }
    assert!(others > 100, "{others}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn work_that_cannot_wait_costs_its_worker_little() {
    let lanes = lanes(1);
    let heavy = move || Heavy {
        lanes,
        ..Heavy::until(soon())
    };
    let works = move || {
        let started = Instant::now().checked_sub(INLINE_IF_FULL).unwrap();
        Heavy { started, ..heavy() }.look()
    };
    tokio::spawn(async move {
        assert_eq!(works(), Ok(()));
        lanes.waiting.store(MAX_WAITING, Ordering::Relaxed);
        assert_eq!(works(), Err(Cut::Busy));
        let started = soon();
        assert_eq!(Heavy { started, ..heavy() }.look(), Ok(()));
        assert_eq!(heavy().look_before(LARGE), Err(Cut::Busy));
    })
    .await
    .unwrap();
    // On another thread it blocks no worker.
    assert_eq!(std::thread::spawn(works).join().unwrap(), Ok(()));
}

#[test]
fn work_also_ends_at_its_deadline_without_a_runtime() {
    let mut heavy = Heavy::until(Instant::now() + Duration::from_millis(10));
    let cut = std::iter::repeat_with(|| heavy.look()).find_map(Result::err);
    assert_eq!(cut, Some(Cut::Deadline));
    assert_eq!(aside(LARGE, soon(), || 1), Ok(1));
}

#[test]
fn long_loops_end_at_the_deadline() {
    let end = Instant::now() + Duration::from_millis(20);
    let rounds = aside(LARGE, end, || {
        std::iter::repeat_with(is_late).position(|late| late)
    });
    assert_eq!(rounds, Err(Cut::Deadline));
    assert!(Instant::now() < end + Duration::from_secs(5));
    assert!(!is_late());
    assert_eq!(aside(LARGE, end, || 1), Err(Cut::Deadline));
    // Work on few bytes is always done.
    assert_eq!(aside(1, end, is_late), Ok(false));
}

#[test]
fn a_panic_does_not_make_later_work_late() {
    let end = Instant::now() + Duration::from_millis(20);
    let panics = || {
        let work = || {
            while !is_late() {}
            panic!("a fault in the work");
        };
        aside(LARGE, end, work)
    };
    assert!(std::panic::catch_unwind(panics).is_err());
    assert!(!is_late());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_long_step_leaves_the_worker_before_it_begins() {
    let mut heavy = Heavy::until(soon());
    heavy.look_before(LARGE - 1).unwrap();
    assert!(heavy.lane.is_none());
    heavy.look_before(LARGE).unwrap();
    assert!(heavy.lane.is_some());
}
