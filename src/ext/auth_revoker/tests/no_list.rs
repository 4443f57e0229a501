//! A revocation that no list gets is never acknowledged.

use http::StatusCode;

use super::*;
use crate::ext::auth_revoker::logout::revoke;
use crate::ext::auth_revoker::revocation_list::NotRevoked;

/// The response of the RPC server to the captured `Add`, and the one to `Check`.
fn errors(revocations: &RevocationAccess) -> Vec<Value> {
    let (mut session, mut decoder) = (Session::default(), Decoder::default());
    let mut errors = Vec::new();
    for sent in [ADD, CHECK] {
        let mut response = Vec::new();
        for message in messages(&bytes(sent)) {
            session
                .message(message, revocations, &mut response)
                .unwrap();
        }
        let values = values(&mut decoder, &response);
        errors.extend(values[0].field("Error").cloned());
    }
    errors
}

fn statuses(revocations: &Arc<RevocationAccess>) -> [u16; 3] {
    let api = Api {
        address: "127.0.0.1:1".parse().unwrap(),
        revocations: Arc::clone(revocations),
        logout: None,
    };
    let good = HeaderValue::try_from(format!("Bearer {SECRET}")).unwrap();
    let body = br#"{"elems": ["jti-A"]}"#;
    let call = |path| api.response(&Method::POST, path, Some(&good), body).0;
    [
        call("/revoke"),
        call("/check"),
        revoke("jti-A", revocations),
    ]
    .map(|status| status.as_u16())
}

#[test]
fn without_a_list_no_interface_acknowledges_a_revocation() {
    let access = RevocationAccess::new(Clock::manual(), Box::new(|_| Ok(())));
    let revocations = Arc::new(access);
    let refuses = |when: &str| {
        assert_eq!(
            revocations.add(b"jti-J1"),
            Err(NotRevoked::NoList),
            "{when}"
        );
        let error = Value::Bytes(b"bloomfilter: no list of revoked tokens is in use".to_vec());
        assert_eq!(errors(&revocations), [error.clone(), error], "{when}");
        assert_eq!(statuses(&revocations), [503; 3], "{when}");
    };
    refuses("before a list is opened");
    let list = list(1000, &revocations);
    refuses("while the list is not open");
    revocations.open(&list, SECRET, None).unwrap();
    assert_eq!(statuses(&revocations), [200; 3]);
    assert!(errors(&revocations).is_empty());
    drop(list);
    refuses("after the list is dropped");
}

#[test]
fn a_logout_that_is_not_remembered_is_not_acknowledged() {
    let (revocations, _list) = revocations();
    let of = |user: u32| format!("logout-sub@1-https://i {user}");
    let mut users = 0..;
    let full = users.find_map(|user| revocations.add(of(user).as_bytes()).err());
    assert_eq!(full, Some(NotRevoked::Full));
    assert_eq!(
        revoke(&of(u32::MAX), &revocations),
        StatusCode::SERVICE_UNAVAILABLE
    );
}
