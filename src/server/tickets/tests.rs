use base64::engine::general_purpose::STANDARD;

use super::*;

const HOUR: u64 = 3600;
const NOW: u64 = 4_000_000_000;
const MTLS: [u8; 32] = [7; 32];

#[test]
fn a_ticket_is_valid_for_twelve_hours_with_the_same_requirements() {
    let tickets = Tickets::own();
    let ticket = tickets.seal(&MTLS, b"session", NOW).unwrap();
    assert_ne!(tickets.seal(&MTLS, b"session", NOW).unwrap(), ticket);
    let open = |now| tickets.open(&MTLS, &ticket, now);
    assert_eq!(open(NOW + HOUR).as_deref(), Some(&b"session"[..]));
    assert_eq!(
        tickets.open(&[8; 32], &ticket, NOW),
        None,
        "other authorities"
    );
    assert_eq!(open(NOW + 12 * HOUR), None);
    let mut forged = ticket.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(tickets.open(&MTLS, &forged, NOW), None);
    for end in 0..ticket.len() {
        assert_eq!(tickets.open(&MTLS, &ticket[..end], NOW), None);
    }
    assert_eq!(Tickets::own().open(&MTLS, &ticket, NOW), None);
}

#[test]
fn our_own_keys_are_rotated_and_the_old_ones_still_decrypt() {
    let tickets = Tickets::own();
    let mut seen = Vec::new();
    let mut ticket = tickets.seal(&MTLS, b"0", NOW).unwrap();
    for turn in 1..20_u64 {
        let now = NOW + turn * 6 * HOUR;
        assert!(tickets.open(&MTLS, &ticket, now).is_some(), "turn {turn}");
        ticket = tickets.seal(&MTLS, b"0", now).unwrap();
        assert!(!seen.contains(&ticket[..NAME_BYTES].to_vec()));
        seen.push(ticket[..NAME_BYTES].to_vec());
        assert!(tickets.ring.load().0.len() <= 4);
    }
}

#[test]
fn a_new_process_decrypts_the_tickets_of_the_previous_one() {
    let old = Tickets::own();
    let now = now();
    let ticket = old.seal(&MTLS, b"session", now).unwrap();
    let new = Tickets::handed_over(&old.to_hand_over()).unwrap();
    assert!(new.open(&MTLS, &ticket, now).is_some());
    assert!(
        old.open(&MTLS, &new.seal(&MTLS, b"s", now).unwrap(), now)
            .is_some()
    );
    for text in ["", "x", "1 zz\n", "1\n"] {
        assert!(Tickets::handed_over(text).is_none(), "{text}");
    }
}

#[test]
fn shared_keys_take_precedence_over_our_own() {
    let secrets = SharedSecrets::default();
    let (here, there) = (
        Tickets::own().shared_by(secrets.clone()),
        Tickets::own().shared_by(secrets.clone()),
    );
    let own = here.seal(&MTLS, b"own", NOW).unwrap();
    assert_eq!(there.open(&MTLS, &own, NOW), None);
    let one = SharedSecret {
        made: NOW,
        text: "11".repeat(32),
    };
    let two = SharedSecret {
        made: NOW,
        text: "22".repeat(32),
    };
    secrets.set(vec![one.clone()]);
    let first = here.seal(&MTLS, b"first", NOW).unwrap();
    assert!(there.open(&MTLS, &first, NOW).is_some());
    assert!(here.open(&MTLS, &own, NOW).is_some());
    secrets.set(vec![two, one]);
    let second = here.seal(&MTLS, b"second", NOW).unwrap();
    assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES]);
    for ticket in [first, second] {
        assert!(there.open(&MTLS, &ticket, NOW).is_some());
    }
}

#[test]
fn a_new_process_has_shared_keys_before_their_store_responds() {
    let (secrets, now) = (SharedSecrets::default(), now());
    let fleet = Tickets::own().shared_by(secrets.clone());
    let early = fleet.seal(&MTLS, b"early", now).unwrap();
    let secret = |digits: &str, made| SharedSecret {
        made,
        text: digits.repeat(32),
    };
    secrets.set(vec![secret("22", now), secret("11", now - HOUR)]);
    let shared = fleet.seal(&MTLS, b"shared", now).unwrap();
    let given = fleet.to_hand_over();
    let new = Tickets::handed_over(&given).unwrap();
    let new = new.shared_by(SharedSecrets::default());
    for ticket in [&early, &shared] {
        assert!(new.open(&MTLS, ticket, now).is_some());
    }
    let sealed = new.seal(&MTLS, b"new", now).unwrap();
    assert!(fleet.open(&MTLS, &sealed, now).is_some());
    // It has the same keys as its own and from the store.
    let new = Tickets::handed_over(&given).unwrap().shared_by(secrets);
    assert_eq!(new.to_hand_over(), given);
    assert_eq!(given.lines().count(), 3);
}

#[test]
fn keys_in_a_file_are_shared_and_replaced_in_two_steps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let of = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Tickets::of_file(&path).map_err(|error| error.reason)
    };
    let (one, two) = ("11".repeat(32), STANDARD.encode([2; 32]));
    for other in [
        two.trim_end_matches('=').to_owned(),
        "-_".repeat(21) + "8=",
        "-_".repeat(21) + "8",
    ] {
        assert!(of(&other).is_ok(), "{other}");
    }
    let here = of(&format!("# first\n{one}\n")).unwrap();
    let there = of(&format!("{one}\n\n{two}\n")).unwrap();
    let ticket = here.seal(&MTLS, b"session", NOW).unwrap();
    assert!(there.open(&MTLS, &ticket, NOW).is_some());
    assert_eq!(there.to_hand_over(), "");
    here.renew(&of(&format!("{two}\n{one}\n")).unwrap());
    assert!(here.open(&MTLS, &ticket, NOW).is_some());
    let new = here.seal(&MTLS, b"session", NOW).unwrap();
    assert!(there.open(&MTLS, &new, NOW).is_some());
    assert_eq!(here.open(&MTLS, &ticket, NOW + 12 * HOUR), None);
    for (text, words) in [
        ("", "it has no key"),
        ("# nothing\n", "it has no key"),
        ("secret!\n", "line 1: is neither hexadecimal nor base64"),
        ("c2hvcnQ=\n", "a key has 32 bytes, this one has 5"),
        ("11\n", "a key has 32 bytes, this one has 1"),
        ("111\n", "line 1: is neither"),
        (&*"11".repeat(31), "a key has 32 bytes, this one has 31"),
        (&*"11".repeat(64), "a key has 32 bytes, this one has 64"),
        (&*format!("{one}\n").repeat(17), "it has 17 keys"),
    ] {
        let error = of(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
