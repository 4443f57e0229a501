//! The users, and the passwords that were verified before.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, rand};

/// With a higher cost, one guess would occupy a thread for seconds.
const MAX_COST: u32 = 16;

/// The keyed hash of a name and a password, which is useless outside of this process.
#[derive(Clone, Copy)]
pub(crate) struct Proof([u8; 32]);

/// Why a user cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("a name must not be empty or contain a colon")]
    Name,
    #[error("not a bcrypt hash ($2y$…, $2a$… or $2b$…)")]
    Hash,
    #[error("the cost of a bcrypt hash must be from 4 to {MAX_COST}")]
    Cost,
    #[error("the system provides no random numbers")]
    Random,
}

/// Users and their password hashes.
pub(crate) struct Users {
    users: HashMap<Box<str>, User>,
    /// The hash for unknown users, so that the response time does not reveal which names exist.
    nobody: Arc<str>,
    secret: hmac::Key,
}

struct User {
    hash: Arc<str>,
    /// The last verified password. There is one per user, so clients cannot make it grow.
    verified: ArcSwapOption<Proof>,
}

impl Users {
    /// The users of these pairs of name and hash. The last pair with a name counts.
    ///
    /// # Errors
    /// The name of the first unusable pair.
    pub(crate) fn new(pairs: &[(String, String)]) -> Result<Users, (String, UserError)> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| (String::new(), UserError::Random))?;
        let mut users = HashMap::new();
        let mut highest = 4;
        for (name, hash) in pairs {
            let cost = cost(name, hash).map_err(|error| (name.clone(), error))?;
            highest = highest.max(cost);
            let user = User {
                hash: hash.as_str().into(),
                verified: ArcSwapOption::empty(),
            };
            users.insert(name.as_str().into(), user);
        }
        Ok(Users {
            users,
            nobody: nobody(highest).into(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    /// Whether the list is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The proof for this password. It includes the hash, so a changed hash invalidates old proofs.
    pub(crate) fn proof(&self, name: &str, password: &[u8]) -> Proof {
        let mut signing = hmac::Context::with_key(&self.secret);
        for part in [name.as_bytes(), self.hash(name).as_bytes()] {
            signing.update(&(part.len() as u64).to_be_bytes());
            signing.update(part);
        }
        signing.update(password);
        let mut proof = [0; 32];
        for (to, from) in proof.iter_mut().zip(signing.sign().as_ref()) {
            *to = *from;
        }
        Proof(proof)
    }

    /// Whether this proof was verified.
    pub(crate) fn knows(&self, name: &str, proof: &Proof) -> bool {
        self.users.get(name).is_some_and(|user| {
            let verified = user.verified.load();
            verified
                .as_ref()
                .is_some_and(|known| verify_slices_are_equal(&known.0, &proof.0).is_ok())
        })
    }

    /// The hash to compare with. For an unknown user, one that matches no password.
    pub(crate) fn hash(&self, name: &str) -> &Arc<str> {
        self.users.get(name).map_or(&self.nobody, |user| &user.hash)
    }

    /// Records a proof that bcrypt has verified.
    pub(crate) fn learn(&self, name: &str, proof: Proof) {
        if let Some(user) = self.users.get(name) {
            user.verified.store(Some(Arc::new(proof)));
        }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.users.len())
    }
}

fn cost(name: &str, hash: &str) -> Result<u32, UserError> {
    if name.is_empty() || name.contains(':') {
        return Err(UserError::Name);
    }
    // $2x$ marks hashes of an implementation with a known bug.
    if hash.starts_with("$2x$") {
        return Err(UserError::Hash);
    }
    let parts: bcrypt::HashParts = hash.parse().map_err(|_| UserError::Hash)?;
    let cost = parts.get_cost();
    if (4..=MAX_COST).contains(&cost) {
        Ok(cost)
    } else {
        Err(UserError::Cost)
    }
}

/// A valid hash with this cost for which no password is known.
fn nobody(cost: u32) -> String {
    format!("$2b${cost:02}${}", ".".repeat(53))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nbBC 4 x secret`
    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    fn users(pairs: &[(&str, &str)]) -> Result<Users, (String, UserError)> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned()))
            .collect();
        Users::new(&pairs)
    }

    #[test]
    fn only_a_recorded_proof_is_known() {
        let (a, b) = (hash("a"), hash("b"));
        let users = users(&[("ann", &a), ("bob", &b)]).unwrap();
        let proof = users.proof("ann", b"a");
        assert!(!users.knows("ann", &proof));
        users.learn("ann", proof);
        assert!(users.knows("ann", &proof));
        assert!(!users.knows("bob", &proof));
        assert!(!users.knows("ann", &users.proof("ann", b"b")));
        users.learn("eve", proof);
        assert!(!users.knows("eve", &proof));
    }

    #[test]
    fn an_unknown_user_is_compared_with_a_hash_of_the_same_cost() {
        let a = hash("a");
        let users = users(&[("ann", &a)]).unwrap();
        let parts: bcrypt::HashParts = users.hash("eve").parse().unwrap();
        assert_eq!(parts.get_cost(), 4);
        assert_eq!(bcrypt::verify("", users.hash("eve")).ok(), Some(false));
    }

    #[test]
    fn hashes_of_another_kind_are_rejected() {
        let good = hash("a");
        let costly = good.replacen("$04$", "$17$", 1);
        let faulty = good.replacen("$2b$", "$2x$", 1);
        for (name, hash, error) in [
            ("", good.as_str(), UserError::Name),
            ("a:b", &good, UserError::Name),
            ("a", "secret", UserError::Hash),
            ("a", "$apr1$x$y", UserError::Hash),
            ("a", &faulty, UserError::Hash),
            ("a", &costly, UserError::Cost),
        ] {
            assert_eq!(users(&[(name, hash)]).err(), Some((name.to_owned(), error)));
        }
        for kind in ["$2y$", "$2a$", "$2b$"] {
            assert!(users(&[("a", &good.replacen("$2b$", kind, 1))]).is_ok());
        }
    }
}
