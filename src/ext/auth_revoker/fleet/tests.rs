use std::future::Future;
use std::pin::Pin;

use smallvec::SmallVec;

use super::*;
use crate::ext::auth_revoker::passed_on;
use crate::ext::auth_revoker::revocation_list::RevocationList;
use crate::ext::redis::{Ask, LIST_PAGE, Listed, Taken};
use crate::jose::bloom::{BloomHash, BloomShape};
use crate::runtime::clock::Clock;
use crate::runtime::upgrade_state::UpgradeState as _;

/// A list in memory, which can be made unreachable. The time of an element is its index.
#[derive(Debug, Default)]
struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    elements: Vec<String>,
    is_away: bool,
    /// How many elements were in all responses.
    sent: usize,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn list(&mut self, ask: &ListAsk) -> Result<Listed, String> {
        if self.is_away {
            return Err("away".to_owned());
        }
        let mut added = 0;
        for element in &ask.add {
            if !(ask.only_missing && self.elements.iter().any(|known| **known == **element)) {
                self.elements.push(element.to_string());
                added += 1;
            }
        }
        let index = ask.after.as_ref().map(|place| place.time.parse::<usize>());
        let found = ask.after.as_ref().zip(index).and_then(|(place, index)| {
            let index = index.unwrap();
            (self.elements.get(index) == Some(&place.element)).then_some(index + 1)
        });
        let start = found.unwrap_or(0);
        let page = self.elements.iter().skip(start).take(LIST_PAGE);
        let elements: Vec<String> = page.cloned().collect();
        let end = start + elements.len();
        self.sent += elements.len();
        let place = elements.last().map(|element| ListPlace {
            time: (end - 1).to_string(),
            element: element.clone(),
        });
        Ok(Listed {
            added,
            lost: ask.after.is_some() && found.is_none(),
            has_more: end < self.elements.len(),
            elements,
            place,
        })
    }
}

impl Shared for Memory {
    fn is_ready(&self) -> bool {
        true
    }

    fn take(&self, _: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
        Box::pin(std::future::ready(Taken::Failed))
    }

    fn list(
        &self,
        ask: ListAsk,
    ) -> Pin<Box<dyn Future<Output = Result<Listed, String>> + Send + '_>> {
        Box::pin(std::future::ready(self.state().list(&ask)))
    }
}

struct Gateway {
    revocations: Arc<RevocationAccess>,
    list: Arc<RevocationList>,
    fleet: Arc<Fleet>,
    reader: Reader,
}

impl Gateway {
    fn new(store: &Arc<Memory>) -> Gateway {
        let shape = BloomShape::new(100_000, 1e-6, BloomHash::Optimal).unwrap();
        let access = RevocationAccess::new(Clock::manual(), Box::new(|_| Ok(())));
        let (revocations, period) = (Arc::new(access), Duration::from_secs(60));
        let list = RevocationList::new("shape", (shape, 1_000_000), period, &revocations);
        let list = Arc::new(list.unwrap());
        let shared = Arc::clone(store) as Arc<dyn Shared>;
        let fleet = Arc::new(Fleet::new(shared, "k".to_owned(), Duration::from_secs(60)));
        revocations.open(&list, "", Some(&fleet)).unwrap();
        Gateway {
            revocations,
            list,
            fleet,
            reader: Reader::default(),
        }
    }

    async fn exchange(&mut self) -> Result<Exchanged, String> {
        self.fleet
            .exchange(&mut self.reader, &self.revocations)
            .await
    }

    /// Exchanges until there is nothing more to do, and returns how often.
    async fn exchange_all(&mut self) -> usize {
        for turn in 1..10_000 {
            if !self.exchange().await.unwrap().has_more {
                return turn;
            }
        }
        panic!("there is no end");
    }

    fn compare(&mut self) {
        self.fleet.compare(&mut self.reader);
    }
}

fn encoded(element: &str) -> String {
    URL_SAFE_NO_PAD.encode(element)
}

#[tokio::test]
async fn revocations_that_redis_has_lost_are_sent_again_until_they_expire() {
    let store = Arc::new(Memory::default());
    let mut gateway = Gateway::new(&store);
    gateway.exchange_all().await;
    gateway.revocations.add(b"jti-J1").unwrap();
    gateway.exchange_all().await;
    store.state().elements.push(encoded("jti-J2"));
    gateway.exchange_all().await;
    assert!(gateway.revocations.contains(b"jti-J2"));
    gateway.compare();
    gateway.exchange_all().await;
    assert_eq!(store.state().elements.len(), 2, "nothing was lost");
    store.state().elements.clear();
    assert!(gateway.exchange().await.unwrap().lost);
    gateway.compare();
    gateway.exchange_all().await;
    let expected = ["jti-J1", "jti-J2"].map(encoded);
    assert_eq!(store.state().elements, expected);
    assert_eq!(gateway.reader.missing, 2);
    store.state().elements.clear();
    gateway.fleet.heard().end_all();
    gateway.compare();
    gateway.exchange_all().await;
    assert!(store.state().elements.is_empty(), "they have ended");
}

#[tokio::test]
async fn revocations_are_shared_and_survive_an_outage_of_redis() {
    let store = Arc::new(Memory::default());
    let (mut one, mut two) = (Gateway::new(&store), Gateway::new(&store));
    store.state().is_away = true;
    one.revocations.add(b"jti-J1").unwrap();
    assert!(
        one.revocations.contains(b"jti-J1"),
        "at once where it was revoked"
    );
    assert_eq!(one.exchange().await, Err("away".to_owned()));
    assert!(!one.fleet.has_arrived());
    store.state().is_away = false;
    one.exchange_all().await;
    assert!(!two.revocations.contains(b"jti-J1"));
    two.exchange_all().await;
    assert!(two.revocations.contains(b"jti-J1") && two.fleet.has_arrived());
    assert!(two.fleet.waiting().is_empty(), "it is not told again");
}

#[tokio::test]
async fn a_process_that_takes_over_sends_what_the_old_one_could_not_send() {
    let store = Arc::new(Memory::default());
    let mut old = Gateway::new(&store);
    old.revocations.add(b"jti-J1").unwrap();
    old.exchange_all().await;
    store.state().is_away = true;
    old.revocations.add(b"jti-J2").unwrap();
    assert!(old.exchange().await.is_err());
    let mut new = Gateway::new(&store);
    new.fleet.take(&old.fleet.give());
    // It is revoked after that.
    let late = passed_on::late_line(b"jti-J3").unwrap();
    new.list.take(&late);
    drop(old);
    store.state().is_away = false;
    new.exchange_all().await;
    let expected = ["jti-J1", "jti-J2", "jti-J3"].map(encoded);
    assert_eq!(store.state().elements, expected);
    // It also remembers what the old one has sent.
    store.state().elements.clear();
    assert!(new.exchange().await.unwrap().lost);
    new.compare();
    new.exchange_all().await;
    assert_eq!(store.state().elements, expected);
    new.fleet.take("revoked-unsent x");
}

#[tokio::test]
async fn a_new_revocation_does_not_wait_for_a_mass_of_others() {
    let store = Arc::new(Memory::default());
    let (mut one, mut two) = (Gateway::new(&store), Gateway::new(&store));
    one.exchange_all().await;
    let mass = (0..50_000).map(|number| encoded(&format!("jti-{number}")));
    store.state().elements.extend(mass);
    assert!(one.exchange().await.unwrap().is_behind);
    one.revocations.add(b"jti-new").unwrap();
    one.exchange().await.unwrap();
    let expected = Some(encoded("jti-new"));
    assert_eq!(store.state().elements.last(), expected.as_ref());
    one.exchange_all().await;
    assert!(one.revocations.contains(b"jti-49999"));
    let turns = two.exchange_all().await;
    assert!(turns <= 50_001 / LIST_PAGE + 1, "{turns}");
    assert!(two.revocations.contains(b"jti-new"));
    store.state().sent = 0;
    two.exchange_all().await;
    assert_eq!(store.state().sent, 0, "nothing is read again");
}

#[tokio::test]
async fn a_mass_of_own_revocations_is_sent_without_a_pause() {
    let store = Arc::new(Memory::default());
    let (mut one, mut two) = (Gateway::new(&store), Gateway::new(&store));
    for number in 0..7_000 {
        one.revocations
            .add(format!("jti-{number}").as_bytes())
            .unwrap();
    }
    let turns = one.exchange_all().await;
    assert!(turns <= 7_000 / BATCH + 2, "{turns}");
    one.compare();
    one.revocations.add(b"jti-new").unwrap();
    one.exchange().await.unwrap();
    let last = store.state().elements.last().cloned();
    assert_eq!(last, Some(encoded("jti-new")), "before the comparison");
    two.exchange_all().await;
    assert!(two.revocations.contains(b"jti-6999") && two.revocations.contains(b"jti-0"));
}

#[tokio::test]
async fn a_reload_with_another_ttl_sends_what_waits_for_redis() {
    let store = Arc::new(Memory::default());
    let mut gateway = Gateway::new(&store);
    gateway.exchange_all().await;
    store.state().is_away = true;
    gateway.revocations.add(b"jti-J1").unwrap();
    assert!(gateway.exchange().await.is_err());
    let shared = Arc::clone(&store) as Arc<dyn Shared>;
    let fleet = Arc::new(Fleet::new(shared, "k".to_owned(), Duration::from_secs(90)));
    let open = |fleet| gateway.revocations.open(&gateway.list, "", Some(fleet));
    open(&fleet).unwrap();
    open(&fleet).unwrap();
    let mut reader = Reader::default();
    store.state().is_away = false;
    fleet
        .exchange(&mut reader, &gateway.revocations)
        .await
        .unwrap();
    assert_eq!(store.state().elements, ["jti-J1"].map(encoded));
    store.state().elements.clear();
    fleet.compare(&mut reader);
    while fleet
        .exchange(&mut reader, &gateway.revocations)
        .await
        .unwrap()
        .has_more
    {}
    assert_eq!(store.state().elements, ["jti-J1"].map(encoded), "known");
}
