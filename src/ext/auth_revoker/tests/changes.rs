//! Revoked tokens stay revoked when the dimensions of the list change, and when another process takes over.

use std::sync::Mutex;

use http::StatusCode;

use super::*;
use crate::ext::auth_revoker::logout;
use crate::runtime::upgrade_state::{NotTold, UpgradeState};

/// A process: its lists, and the lines for the process that takes over from it.
struct Process {
    access: Arc<RevocationAccess>,
    clock: Clock,
    later: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn new() -> Process {
        let (clock, later) = (Clock::manual(), Arc::new(Mutex::new(Vec::new())));
        let lines = Arc::clone(&later);
        let tell = move |line: &str| {
            lines.lock().unwrap().push(line.to_owned());
            Ok(())
        };
        Process {
            access: Arc::new(RevocationAccess::new(clock.clone(), Box::new(tell))),
            clock,
            later,
        }
    }

    /// Opens a list for so many elements.
    fn open(&self, elements: u64) -> Result<Arc<RevocationList>, String> {
        let list = list(elements, &self.access);
        self.access.open(&list, "", None).map(|()| list)
    }

    fn revoke(&self, element: &str) {
        self.access.add(element.as_bytes()).unwrap();
    }

    fn has(&self, element: &str) -> bool {
        self.access.contains(element.as_bytes())
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

#[test]
fn revoked_tokens_stay_revoked_after_a_reload_that_changes_a_dimension() {
    for (from, to) in [
        ("1000", "5000"),
        ("0.0001", "0.001"),
        ("60", "120"),
        ("60", "30"),
        ("optimal", "default"),
    ] {
        let mut file = File::new(BLOCK);
        file.service(&SERVICE);
        let revocations = super::super::compile::revocations(file.compile());
        let mut carry = opened(file);
        revocations.add(b"jti-J1").unwrap();
        revocations.add(b"logout-sub@5-https://i ada").unwrap();
        // There and back again.
        for block in [BLOCK.replace(from, to), BLOCK.to_owned()] {
            let mut file = File::after(&block, carry);
            file.service(&SERVICE);
            let revoker = file.fact::<Revoker>().unwrap();
            carry = opened(file);
            assert!(revoker.0.is_revoked(&claims(r#"{"jti": "J1"}"#)), "{block}");
            assert!(
                !revoker.0.is_revoked(&claims(r#"{"jti": "J2"}"#)),
                "{block}"
            );
            assert!(revocations.contains(b"jti-J1"), "{block}");
        }
    }
}

#[test]
fn an_element_keeps_its_expiry_when_the_list_changes() {
    let process = Process::new();
    let _first = process.open(1000).unwrap();
    process.revoke("first");
    process.pass(60);
    let _second = process.open(2000).unwrap();
    process.revoke("second");
    process.pass(60);
    let third = process.open(1000).unwrap();
    assert_eq!(third.earlier.current(process.clock.now()).len(), 2);
    assert!(process.has("first") && process.has("second"));
    process.pass(59);
    assert!(process.has("first"));
    process.pass(1);
    assert!(!process.has("first") && process.has("second"));
    process.pass(120);
    assert!(!process.has("second"));
    third.earlier.sweep(process.clock.now());
    assert!(third.earlier.current(process.clock.now()).is_empty());
}

#[test]
fn the_service_before_a_reload_and_the_one_after_it_learn_new_revocations() {
    let process = Process::new();
    let first = process.open(1000).unwrap();
    let second = process.open(2000).unwrap();
    process.revoke("new");
    process.revoke("logout-sub@9-https://i ada");
    assert!(first.contains(b"new") && second.contains(b"new"));
    let ada = claims(r#"{"iss": "https://i", "sub": "ada", "iat": 9}"#);
    let third = process.open(3000).unwrap();
    for list in [&first, &second, &third] {
        let revocation = TokenRevocation::new(Arc::clone(list), &[], true, None);
        assert!(revocation.is_revoked(&ada));
    }
    assert!(second.earlier.current(process.clock.now()).is_empty());
    // A list that is carried over does not copy another one.
    process.access.open(&second, "", None).unwrap();
    assert!(second.earlier.current(process.clock.now()).is_empty());
}

#[test]
fn a_reload_that_would_lose_revocations_is_rejected() {
    let process = Process::new();
    let mut lists = Vec::new();
    for number in 0..9 {
        lists.push(process.open(1000 + number).unwrap());
        process.revoke(&number.to_string());
        process.pass(1);
    }
    let error = process.open(2000).unwrap_err();
    assert!(
        error.contains("until one has expired, the next in 1"),
        "{error}"
    );
    assert!((0..9).all(|number| process.has(&number.to_string())));
    // The list in use is as before, and a list without elements needs no place.
    process.pass(180);
    lists.push(process.open(2000).unwrap());
    assert!(!process.has("0"));
}

#[test]
fn the_process_that_takes_over_reads_a_list_with_other_dimensions_until_it_expires() {
    let old = Process::new();
    let list = old.open(1000).unwrap();
    old.pass(7);
    old.revoke("jti-J1");
    let (mut given, mut lives) = (list.give(), 173);
    assert_eq!(given.lines().count(), 3, "{given}");
    // The elements of an earlier list do not live longer after each upgrade.
    for elements in [2000, 3000, 2000, 4000] {
        let new = Process::new();
        new.pass(1000);
        let list = new.open(elements).unwrap();
        list.take(&given);
        assert!(new.has("jti-J1") && !new.has("jti-J2"), "{elements}");
        new.pass(20);
        lives -= 20;
        given = list.give();
        new.pass(lives - 1);
        assert!(new.has("jti-J1"), "{elements}");
        new.pass(1);
        assert!(!new.has("jti-J1"), "{elements}");
    }
}

#[test]
fn a_process_of_another_version_reads_what_it_knows() {
    let old = Process::new();
    let first = old.open(500).unwrap();
    old.revoke("first");
    let list = old.open(1000).unwrap();
    old.revoke("second");
    drop(first);
    let given = list.give();
    // An older program passes no shapes.
    let lines = given
        .lines()
        .filter(|line| !line.starts_with("revoked-shape"));
    let older: String = lines.map(|line| format!("{line}\n")).collect();
    let newer = format!("revoked-more x y\n{}", given.replace(" MSA", " MiA"));
    for (text, elements, first, second) in [
        (&older, 1000, false, true),
        (&older, 2000, false, false),
        // `2 …`: a form of a newer one.
        (&newer, 1000, false, true),
        (&given, 1000, true, true),
        (&given, 500, true, true),
        (&String::new(), 1000, false, false),
    ] {
        let new = Process::new();
        let list = new.open(elements).unwrap();
        list.take(text);
        let found = (new.has("first"), new.has("second"));
        assert_eq!(found, (first, second), "{elements} {text}");
    }
}

#[test]
fn a_revocation_after_the_copy_reaches_the_process_that_takes_over() {
    for state_first in [true, false] {
        let (old, new) = (Process::new(), Process::new());
        let (from, to) = (old.open(1000).unwrap(), new.open(1000).unwrap());
        old.revoke("jti-J1");
        let given = from.give();
        let late = [
            "jti-J2",
            "logout-sid-https://i s1",
            "logout-sub@9-https://i ada",
        ];
        late.iter().for_each(|element| old.revoke(element));
        let lines = old.later.lock().unwrap().clone();
        assert_eq!(lines.len(), 4, "one for each");
        if state_first {
            to.take(&given);
        }
        // A line that comes again changes nothing.
        for line in lines.iter().chain(&lines) {
            assert!(line.ends_with('\n') && line.lines().count() == 1);
            to.take(line);
        }
        if !state_first {
            to.take(&given);
        }
        assert!(new.has("jti-J1") && new.has("jti-J2") && !new.has("jti-J3"));
        let revocation = TokenRevocation::new(Arc::clone(&to), &[], true, None);
        let ada = |iat: u64| {
            claims(&format!(
                r#"{{"iss": "https://i", "sub": "ada", "iat": {iat}}}"#
            ))
        };
        let session = r#"{"iss": "https://i", "sid": "s1"}"#;
        assert!(revocation.is_revoked(&claims(session)));
        assert!(revocation.is_revoked(&ada(9)) && !revocation.is_revoked(&ada(10)));
        // It may be replaced itself.
        assert_eq!(new.later.lock().unwrap().len(), 8);
    }
}

#[test]
fn a_late_revocation_reaches_the_list_of_a_reload_too() {
    let (old, new) = (Process::new(), Process::new());
    let _from = old.open(1000).unwrap();
    let to = new.open(1000).unwrap();
    let replaced = new.open(2000).unwrap();
    old.revoke("jti-J1");
    let lines = old.later.lock().unwrap().concat();
    to.take(&lines);
    assert!(to.contains(b"jti-J1") && replaced.contains(b"jti-J1"));
    drop(replaced);
    // Also if its service has ended.
    let to = list(1000, &new.access);
    let replaced = new.open(3000).unwrap();
    to.take(&lines);
    assert!(replaced.contains(b"jti-J1"));
}

#[test]
fn who_revokes_learns_that_the_process_that_takes_over_was_not_told() {
    let access = RevocationAccess::new(Clock::manual(), Box::new(|_| Err(NotTold)));
    let revocations = Arc::new(access);
    let list = list(1000, &revocations);
    revocations.open(&list, SECRET, None).unwrap();
    let api = Api {
        address: "127.0.0.1:1".parse().unwrap(),
        revocations: Arc::clone(&revocations),
        logout: None,
    };
    let secret = HeaderValue::try_from(format!("Bearer {SECRET}")).unwrap();
    let body = br#"{"key": "jti", "value": "J2"}"#;
    let (status, body) = api.response(&Method::POST, "/revoke", Some(&secret), body);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let expected = "the process that takes over was not told: send the request again";
    assert_eq!(body["error"], expected);
    let mut response = Vec::new();
    let mut session = Session::default();
    for message in messages(&bytes(ADD)) {
        session
            .message(message, &revocations, &mut response)
            .unwrap();
    }
    let values = values(&mut Decoder::default(), &response);
    let error = "bloomfilter: the process that takes over was not told: call again";
    assert_eq!(
        values[0].field("Error"),
        Some(&Value::Bytes(error.as_bytes().to_vec()))
    );
    assert_eq!(
        logout::revoke("logout-sid-https://i s1", &revocations),
        StatusCode::SERVICE_UNAVAILABLE
    );
    // They are revoked here nevertheless.
    for element in [&b"jti-J1"[..], b"jti-J2", b"logout-sid-https://i s1"] {
        assert!(revocations.contains(element));
    }
    // What others report needs no line.
    revocations.learn(b"jti-J3");
    assert!(revocations.contains(b"jti-J3"));
}
