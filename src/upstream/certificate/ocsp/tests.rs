use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use super::*;

#[allow(unreachable_pub)]
#[path = "../../../../tests/it/support/ocsp.rs"]
mod made;

use made::{Response, UNKNOWN, pem_of, revoked};

struct World {
    authority: CertifiedIssuer<'static, KeyPair>,
    leaf: CertificateDer<'static>,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of `authority`, and its key.
fn issued(
    authority: &CertifiedIssuer<'static, KeyPair>,
    edit: impl FnOnce(&mut CertificateParams),
) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    edit(&mut params);
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), key)
}

impl World {
    fn new() -> World {
        let authority = authority("CA");
        let (leaf, _) = issued(&authority, |_| {});
        World { authority, leaf }
    }

    fn good(&self) -> Response<'_> {
        Response::good(&self.leaf, self.authority.key())
    }

    fn staple(&self, response: &Response<'_>) -> Result<Staple, OcspProblem> {
        let chain = [self.leaf.clone(), self.authority.der().clone()];
        parsed(&response.der()).staple(&chain)
    }

    #[track_caller]
    fn rejects(&self, response: &Response<'_>, problem: OcspProblem) {
        assert_eq!(self.staple(response), Err(problem));
    }
}

fn parsed(der: &[u8]) -> OcspResponse {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), der).unwrap();
    read_ocsp_response(file.path()).unwrap()
}

#[test]
fn a_good_response_of_the_issuer_is_stapled() {
    let world = World::new();
    let der = world.good().der();
    let chain = [world.leaf.clone(), world.authority.der().clone()];
    let staple = parsed(&der).staple(&chain).unwrap();
    assert!(staple.is_verified && staple.is_current());
    assert_eq!(staple.der, der);
    assert_eq!(staple.until, Some(4_070_908_800));
    let open = Response {
        next_update: None,
        ..world.good()
    };
    // The end of the issuer.
    let (_, issuer) = X509Certificate::from_der(world.authority.der()).unwrap();
    let end = issuer.validity().not_after.timestamp();
    let staple = world.staple(&open).unwrap();
    assert_eq!((staple.until, staple.ends_with_signer), (Some(end), true));
}

#[test]
fn a_response_that_clients_reject_is_not_stapled() {
    let world = World::new();
    let revoked = revoked();
    for (status, problem) in [
        (&*revoked, OcspProblem::Revoked),
        (UNKNOWN, OcspProblem::Unknown),
    ] {
        let response = Response {
            status,
            ..world.good()
        };
        world.rejects(&response, problem);
    }
    let early = Response {
        this_update: "20980101000000Z",
        ..world.good()
    };
    world.rejects(&early, OcspProblem::Early);
    let late = Response {
        next_update: Some("20200108000000Z"),
        ..world.good()
    };
    world.rejects(&late, OcspProblem::Late);
    let (other, _) = issued(&world.authority, |_| {});
    let other = Response::good(&other, world.authority.key());
    world.rejects(&other, OcspProblem::OtherCertificate);
    // The same name and serial number, but another key.
    let stranger = KeyPair::generate().unwrap();
    let other = Response::good(&world.leaf, &stranger);
    world.rejects(&other, OcspProblem::OtherCertificate);
    let mut damaged = world.good().der();
    // The last byte of the signature.
    *damaged.last_mut().unwrap() ^= 1;
    let chain = [world.leaf.clone(), world.authority.der().clone()];
    let verdict = parsed(&damaged).staple(&chain);
    assert_eq!(verdict, Err(OcspProblem::Stranger));
}

#[test]
fn only_the_issuer_and_its_responders_may_sign() {
    let world = World::new();
    let signs = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    };
    let verdict = |(certificate, key): &(CertificateDer<'static>, KeyPair), is_attached: bool| {
        let response = Response {
            signer: key,
            attached: is_attached.then_some(certificate),
            ..world.good()
        };
        world.staple(&response).map(|staple| staple.is_verified)
    };
    let responder = issued(&world.authority, signs);
    assert_eq!(verdict(&responder, true), Ok(true));
    assert_eq!(verdict(&responder, false), Err(OcspProblem::Stranger));
    let without_right = issued(&world.authority, |_| {});
    assert_eq!(verdict(&without_right, true), Err(OcspProblem::Stranger));
    let of_another = issued(&authority("CA"), signs);
    assert_eq!(verdict(&of_another, true), Err(OcspProblem::Stranger));
    let past = issued(&world.authority, |params| {
        signs(params);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    });
    assert_eq!(verdict(&past, true), Err(OcspProblem::SignerEnded));
}

#[test]
fn without_the_issuer_in_the_file_the_signature_is_not_verified() {
    let world = World::new();
    let response = parsed(&world.good().der());
    let staple = response.staple(std::slice::from_ref(&world.leaf)).unwrap();
    assert!(!staple.is_verified);
    // Another certificate with the name of the issuer is not the issuer.
    let namesake = authority("CA");
    let chain = [world.leaf.clone(), namesake.der().clone()];
    assert!(!response.staple(&chain).unwrap().is_verified);
}

#[test]
fn a_response_ends_with_the_certificate_of_its_signer() {
    let world = World::new();
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let (responder, key) = issued(&world.authority, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        params.not_after = year(2090);
    });
    let end = year(2090).unix_timestamp();
    let delegated = || Response {
        signer: &key,
        attached: Some(&responder),
        ..world.good()
    };
    let earlier = Response {
        next_update: Some("20800101000000Z"),
        ..delegated()
    };
    let open = Response {
        next_update: None,
        ..delegated()
    };
    for (response, until) in [
        (delegated(), (Some(end), true)),
        (open, (Some(end), true)),
        (earlier, (Some(year(2080).unix_timestamp()), false)),
    ] {
        let staple = world.staple(&response).unwrap();
        assert_eq!((staple.until, staple.ends_with_signer), until);
    }
    let chain = [world.leaf.clone(), world.authority.der().clone()];
    let response = parsed(&delegated().der());
    assert!(response.staple_at(&chain, end - 1).is_ok());
    let ended = response.staple_at(&chain, end);
    assert_eq!(ended, Err(OcspProblem::SignerEnded));
    // Clients verify it, also if the gateway cannot.
    let unverified = response.staple(std::slice::from_ref(&world.leaf)).unwrap();
    assert_eq!(
        (unverified.until, unverified.is_verified),
        (Some(end), false)
    );
}

#[test]
fn other_files_have_no_staple() {
    let world = World::new();
    let chain = [world.leaf.clone(), world.authority.der().clone()];
    let problem = |bytes: &[u8]| parsed(bytes).staple(&chain).map(|staple| staple.der);
    let good = world.good().der();
    let pem = pem_of(&good);
    assert_eq!(problem(pem.as_bytes()), Ok(good.clone()));
    for (bytes, expected) in [
        // tryLater
        (&[0x30, 3, 10, 1, 3][..], OcspProblem::Failure),
        (&[0x30, 3, 10, 1, 6], OcspProblem::Failure),
        (&[0x30, 3, 10, 1, 0], OcspProblem::NotBasic),
        (b"", OcspProblem::NoResponse),
        (b"garbage", OcspProblem::NoResponse),
        (&[0x30, 3, 2, 1, 0], OcspProblem::NoResponse),
        (&[0x30, 9, 10, 1, 0], OcspProblem::NoResponse),
        (&good[..good.len() / 2], OcspProblem::NoResponse),
        (&pem.as_bytes()[..pem.len() / 2], OcspProblem::Pem),
    ] {
        assert_eq!(problem(bytes), Err(expected), "{bytes:?}");
    }
    let missing = read_ocsp_response(std::path::Path::new("/nonexistent/ocsp"));
    assert!(missing.is_err());
}
