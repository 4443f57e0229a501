//! Key files whose passphrase is stored in a Vault.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;

use super::spec::{FetchError, read_key_file};
use crate::jose::sealed::{self, Passphrase};
use crate::upstream::side::{SideClient, VaultSecret};

/// An encrypted key file, and the Vault that has its passphrase.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SealedFile {
    pub path: PathBuf,
    pub secret: VaultSecret,
}

impl SealedFile {
    /// Reads and decrypts the file. Vault is called until it has once returned the right passphrase. After that,
    /// neither an outage of Vault nor the expiry of its token matters.
    ///
    /// # Errors
    /// The file cannot be read, there is no passphrase, or it is not the one of this file.
    pub async fn document(
        &self,
        side: &SideClient,
        known: &OnceLock<Passphrase>,
    ) -> Result<Bytes, FetchError> {
        if let Some(document) = self.at_hand(known)? {
            return Ok(document);
        }
        let asked = self.secret.open(side).await;
        let passphrase = asked.map_err(|reason| FetchError::Keeper {
            path: self.path.clone(),
            reason,
        })?;
        let document = opened(&self.path, &passphrase)?;
        // Only a passphrase that worked is kept, so a wrong server in Vault's place cannot break the next attempt.
        let _ = known.set(passphrase);
        Ok(document)
    }

    /// The document, without a call to Vault. `None` while the passphrase is unknown.
    ///
    /// # Errors
    /// The file cannot be read, is not encrypted, or cannot be decrypted with the passphrase that worked before.
    pub fn at_hand(&self, known: &OnceLock<Passphrase>) -> Result<Option<Bytes>, FetchError> {
        match known.get() {
            Some(passphrase) => opened(&self.path, passphrase).map(Some),
            None => encrypted(&self.path).map(|_| None),
        }
    }
}

fn encrypted(path: &Path) -> Result<Bytes, FetchError> {
    let file = read_key_file(path).map_err(|error| FetchError::file(path, error))?;
    sealed::check_file(&file).map_err(|error| FetchError::file(path, error))?;
    Ok(file)
}

fn opened(path: &Path, passphrase: &Passphrase) -> Result<Bytes, FetchError> {
    let document = passphrase.open(&encrypted(path)?);
    document
        .map(Bytes::from)
        .map_err(|error| FetchError::file(path, error))
}
