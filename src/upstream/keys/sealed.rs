//! Key files whose passphrase a Vault has.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;

use super::spec::{FetchError, read_key_file};
use crate::jose::sealed::{self, Passphrase};
use crate::upstream::side::{SideClient, VaultSecret};

/// An encrypted key file and who knows its passphrase.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SealedFile {
    pub path: PathBuf,
    pub secret: VaultSecret,
}

impl SealedFile {
    /// Reads the file and opens it. Vault is asked until it has once given the passphrase that opens it: from then on
    /// neither an outage of Vault nor the end of its token matters.
    ///
    /// # Errors
    /// No readable file, no passphrase, or not that of this file.
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
        // Only a passphrase that has proved itself is kept: whoever answers in Vault's place cannot spoil the next try.
        let _ = known.set(passphrase);
        Ok(document)
    }

    /// The document without asking anyone: none while the passphrase is not known.
    ///
    /// # Errors
    /// The file cannot be read, is no encrypted file, or is not opened by the passphrase that has opened it before.
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
