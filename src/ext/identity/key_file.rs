//! Key files (`jwk_local_path`), which may be encrypted (`secret_url`, `cypher_key`).

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::config::{Block, ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::warn_if_others_write;
use crate::jose::sealed::{self, Keeper, KeeperError, SealedError};
use crate::upstream::keys::{SealedFile, read_key_file};
use crate::upstream::{SideTls, VaultSecret, VaultServer, VaultServerError};

/// The environment variables of KrakenD's Vault client. The first of two names that is set counts.
const URL: [&str; 2] = ["VAULT_SERVER_URL", "VAULT_ADDR"];
const TOKEN: [&str; 2] = ["VAULT_SERVER_TOKEN", "VAULT_TOKEN"];
const NAMESPACE: &str = "VAULT_NAMESPACE";
const CA: &str = "VAULT_CACERT";

/// A key file, decrypted as far as possible without a network call.
#[derive(Debug)]
pub(crate) enum KeyFile {
    Plain(PathBuf),
    /// It was encrypted. This is the document in it.
    Opened(Bytes),
    /// A Vault must be called first.
    Sealed(SealedFile),
}

impl KeyFile {
    /// Reads the configured file at `path`. `None` after an error, which is reported.
    pub(crate) fn read(block: &Block<'_>, path: PathBuf, cx: &Compile<'_>) -> Option<KeyFile> {
        if let Some(node) = block.get("jwk_local_path") {
            warn_if_others_write(&node, &path);
        }
        let url = block.text("secret_url").filter(|url| !url.is_empty());
        let (Some(at), Some(url)) = (block.get("secret_url"), url) else {
            return Some(KeyFile::Plain(path));
        };
        let keeper = keeper(&at, url)?;
        let file = encrypted(block, &path);
        match keeper {
            Keeper::Here(key) => {
                let passphrase = cypher_key(block, |text| sealed::passphrase(&key, text));
                let (passphrase, file) = (passphrase?, file?);
                let document = passphrase.open(&file);
                let document = document.map_err(|error| unusable(block, &path, error));
                Some(KeyFile::Opened(document.ok()?.into()))
            }
            Keeper::Vault(key) => {
                let ciphertext = cypher_key(block, sealed::vault_ciphertext);
                let server = vault(&at, block.flag("disable_jwk_security"), cx);
                let (ciphertext, server, _) = (ciphertext?, server?, file?);
                let secret = VaultSecret::new(server, &key, ciphertext);
                Some(KeyFile::Sealed(SealedFile { path, secret }))
            }
        }
    }
}

/// How a Vault is verified: like key servers, with Vault's own CA in addition. Verification is never disabled: in
/// KrakenD a key file requires `disable_jwk_security`, so that setting says nothing about Vault.
pub(crate) fn keeper_tls(mut tls: SideTls, cx: &Compile<'_>) -> SideTls {
    tls.insecure = false;
    tls.ca_certs
        .extend(variable(CA, cx).map(|path| cx.path(path)));
    tls
}

fn keeper(at: &Node<'_>, url: &str) -> Option<Keeper> {
    let error = match Keeper::parse(url) {
        Ok(keeper) => return Some(keeper),
        Err(error) => error,
    };
    let config_error = ConfigError::invalid(format!("{}: {error}", shown(at, url)));
    match error {
        KeeperError::Cloud(_) => at.config_error_hint(
            config_error,
            "encrypt the passphrase again, with a key of Vault's transit engine or with one of your own",
        ),
        _ => at.config_error(config_error),
    }
    None
}

/// The name of a key in a Vault can be shown. A key itself cannot, and an unknown scheme may be anything.
fn shown(at: &Node<'_>, url: &str) -> String {
    match url.split_once("://") {
        _ if at.value().masked => "[redacted]".to_owned(),
        Some(("hashivault", _)) => format!("{url:?}"),
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_lowercase()) => {
            format!("\"{scheme}://…\"")
        }
        _ => "[redacted]".to_owned(),
    }
}

/// The result of `read` for `cypher_key`.
fn cypher_key<T>(
    block: &Block<'_>,
    read: impl FnOnce(&str) -> Result<T, SealedError>,
) -> Option<T> {
    let text = block.required("cypher_key")?;
    match (read(&text), block.get("cypher_key")) {
        (Ok(opened), _) => Some(opened),
        (Err(error), at) => {
            let at = at.unwrap_or_else(|| block.node().clone());
            at.config_error_hint(
                ConfigError::invalid(error.to_string()),
                "standard base64, with padding, of the bytes that the keeper returned when it sealed the passphrase",
            );
            None
        }
    }
}

/// The content of the file, which may be an encrypted key file.
fn encrypted(block: &Block<'_>, path: &Path) -> Option<Bytes> {
    let file = match read_key_file(path) {
        Ok(file) => file,
        Err(error) => {
            unusable(block, path, error);
            return None;
        }
    };
    match sealed::check_file(&file) {
        Ok(()) => Some(file),
        Err(error) => {
            unusable(block, path, error);
            None
        }
    }
}

fn unusable(block: &Block<'_>, path: &Path, reason: impl ToString) {
    let at = block.get("jwk_local_path");
    at.unwrap_or_else(|| block.node().clone())
        .config_error(ConfigError::File {
            path: path.display().to_string(),
            reason: reason.to_string(),
        });
}

/// The Vault in the environment. `plain` allows plain HTTP to another machine.
fn vault(at: &Node<'_>, plain: bool, cx: &Compile<'_>) -> Option<VaultServer> {
    let url = first(URL, cx);
    if url.is_none() {
        unset(
            at,
            URL,
            "where the Vault is: https://vault.example.com:8200",
        );
    }
    let token = first(TOKEN, cx);
    if token.is_none() {
        unset(
            at,
            TOKEN,
            "a token of the Vault that may update transit/decrypt/KEY",
        );
    }
    let ((url_name, url), (token_name, token)) = (url?, token?);
    let server = match VaultServer::new(url, token, variable(NAMESPACE, cx)) {
        Ok(server) => server,
        Err(error) => {
            let name = match error {
                VaultServerError::Url => url_name,
                VaultServerError::Token => token_name,
                VaultServerError::Namespace => NAMESPACE,
            };
            at.invalid(format!("the environment variable {name} {error}"));
            return None;
        }
    };
    if server.is_exposed() && !plain {
        at.config_error_hint(
            ConfigError::invalid(format!(
                "{url_name} is http:// and not on this machine: others could read the token and the passphrase"
            )),
            "an https:// URL, or \"disable_jwk_security\": true in a network that you trust",
        );
        return None;
    }
    Some(server)
}

fn unset(at: &Node<'_>, [name, _]: [&str; 2], hint: &'static str) {
    let config_error =
        format!("hashivault:// needs the environment variable {name}, which is not set");
    at.config_error_hint(ConfigError::invalid(config_error), hint);
}

fn first<'e>(names: [&'static str; 2], cx: &Compile<'e>) -> Option<(&'static str, &'e str)> {
    names
        .into_iter()
        .find_map(|name| Some((name, variable(name, cx)?)))
}

fn variable<'e>(name: &str, cx: &Compile<'e>) -> Option<&'e str> {
    cx.environment.get(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;
    use crate::config::{Key, Kind, key};
    use crate::ext::testing::File;
    use crate::jose::testing::{seal, seal_box};

    const KEYS: &[Key] = &[
        key("jwk_local_path", Kind::Text, "", ""),
        key("secret_url", Kind::Secret, "", ""),
        key("cypher_key", Kind::Secret, "", ""),
        key("disable_jwk_security", Kind::Bool, "false", ""),
    ];

    const SET: &str = r#"{"keys":[]}"#;
    const VARIABLES: [(&str, &str); 2] = [
        ("VAULT_SERVER_URL", "https://vault.test:8200"),
        ("VAULT_SERVER_TOKEN", "s.secret"),
    ];

    /// The result for a block with these members and a file with this content.
    fn read<const N: usize>(
        members: &str,
        content: &[u8],
        variables: [(&str, &str); N],
    ) -> (Option<KeyFile>, usize, String) {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, content).unwrap();
        let text = format!(r#"{{"jwk_local_path": "{}"{members}}}"#, path.display());
        let mut file = File::in_environment(&text, variables);
        let block = file.node().block(KEYS).unwrap();
        let made = KeyFile::read(&block, path.to_path_buf(), file.compile());
        (made, file.config_errors(), file.findings())
    }

    fn ciphertext() -> String {
        STANDARD.encode("vault:v1:AbC=")
    }

    fn vault(url: &str) -> String {
        format!(
            r#", "secret_url": "{url}", "cypher_key": "{}""#,
            ciphertext()
        )
    }

    #[test]
    fn a_file_is_plain_decrypted_or_needs_a_vault() {
        let (made, ..) = read("", b"anything", []);
        assert!(matches!(made, Some(KeyFile::Plain(_))));

        let key = [7; 32];
        let members = format!(
            r#", "secret_url": "base64key://{}", "cypher_key": "{}""#,
            URL_SAFE.encode(key),
            seal_box(&key, b"horse")
        );
        let (made, _, findings) = read(&members, &seal(b"horse", SET.as_bytes()), []);
        match made {
            Some(KeyFile::Opened(document)) => assert_eq!(document, SET),
            other => panic!("{other:?}: {findings}"),
        }
        let (made, config_errors, findings) = read(&members, &seal(b"cow", SET.as_bytes()), []);
        assert!(made.is_none());
        assert_eq!(config_errors, 1, "{findings}");
        assert!(findings.contains("/jwk_local_path"), "{findings}");

        let (made, _, findings) = read(&vault("hashivault://gate"), &seal(b"x", b""), VARIABLES);
        match made {
            Some(KeyFile::Sealed(file)) => {
                let shown = format!("{file:?}");
                assert!(
                    shown.contains("https://vault.test:8200/v1/transit/decrypt/gate"),
                    "{shown}"
                );
                assert!(!shown.contains("s.secret"), "{shown}");
            }
            other => panic!("{other:?}: {findings}"),
        }
    }

    #[test]
    fn errors_name_the_location_and_the_expected_value() {
        let file = seal(b"x", b"");
        for (members, pointer, words) in [
            (vault("awskms://key?region=x"), "/secret_url", "AWS KMS"),
            (
                vault("azurekeyvault://v/keys/k"),
                "/secret_url",
                "Azure Key Vault",
            ),
            (vault("gcpkms://p/k"), "/secret_url", "Google Cloud KMS"),
            (
                vault("hashivault://a/b"),
                "/secret_url",
                "a key's name are expected",
            ),
            (vault("hashivault://a?x=y"), "/secret_url", "only parameter"),
            (vault("base64key://AAAA"), "/secret_url", "32 bytes"),
            (
                vault("nothing"),
                "/secret_url",
                "[redacted]: base64key:// or hashivault:// is expected",
            ),
            (
                r#", "secret_url": "hashivault://k", "cypher_key": "vault:v1:AbC=""#.to_owned(),
                "/cypher_key",
                "not base64",
            ),
            (
                r#", "secret_url": "hashivault://k", "cypher_key": "AAAA""#.to_owned(),
                "/cypher_key",
                "vault:v1:",
            ),
            (
                r#", "secret_url": "hashivault://k""#.to_owned(),
                "pointer: \"\"",
                "Missing(\"cypher_key\")",
            ),
        ] {
            let (made, config_errors, findings) = read(&members, &file, VARIABLES);
            assert!(made.is_none(), "{members}");
            assert_eq!(config_errors, 1, "{members}: {findings}");
            assert!(findings.contains(pointer), "{members}: {findings}");
            assert!(findings.contains(words), "{members}: {findings}");
        }
    }

    #[test]
    fn a_file_that_is_not_encrypted_is_found_before_vault_is_called() {
        let (made, config_errors, findings) = read(&vault("hashivault://k"), b"{}", VARIABLES);
        assert!(made.is_none());
        assert_eq!(config_errors, 1, "{findings}");
        assert!(findings.contains("/jwk_local_path"), "{findings}");
    }

    #[test]
    fn the_environment_must_name_a_vault_that_can_be_called() {
        let file = seal(b"x", b"");
        let [url, token] = VARIABLES;
        for (variables, count, words) in [
            (
                [("A", ""), ("B", "")],
                2,
                "VAULT_SERVER_TOKEN, which is not set",
            ),
            ([url, ("B", "")], 1, "VAULT_SERVER_TOKEN, which is not set"),
            (
                [("VAULT_SERVER_URL", ""), token],
                1,
                "VAULT_SERVER_URL, which is not set",
            ),
            (
                [("VAULT_ADDR", "https://u:hunter2@v"), token],
                1,
                "VAULT_ADDR is not the http",
            ),
            (
                [url, ("VAULT_TOKEN", "hunter2\n")],
                1,
                "VAULT_TOKEN contains characters",
            ),
            (
                [("VAULT_SERVER_URL", "http://vault:8200"), token],
                1,
                "others could read",
            ),
        ] {
            let (made, config_errors, findings) = read(&vault("hashivault://k"), &file, variables);
            assert!(made.is_none(), "{words}");
            assert_eq!(config_errors, count, "{findings}");
            assert!(findings.contains(words), "{findings}");
            assert!(!findings.contains("hunter2"), "{findings}");
        }
    }

    #[test]
    fn plain_http_is_only_for_this_machine_or_a_trusted_network() {
        let file = seal(b"x", b"");
        let token = VARIABLES[1];
        let local = [("VAULT_ADDR", "http://127.0.0.1:8200"), token];
        let (made, _, findings) = read(&vault("hashivault://k"), &file, local);
        assert!(made.is_some(), "{findings}");
        let members = format!(
            r#"{}, "disable_jwk_security": true"#,
            vault("hashivault://k")
        );
        let other = [("VAULT_ADDR", "http://vault:8200"), token];
        let (made, _, findings) = read(&members, &file, other);
        assert!(made.is_some(), "{findings}");
    }

    #[test]
    fn a_vault_is_always_verified() {
        let mut file = File::in_environment("{}", [("VAULT_CACERT", "/ca.pem")]);
        let tls = SideTls {
            insecure: true,
            pins: vec![[1; 32]],
            ..SideTls::default()
        };
        let tls = keeper_tls(tls, file.compile());
        assert!(!tls.insecure);
        assert_eq!(tls.ca_certs, [PathBuf::from("/ca.pem")]);
        assert_eq!(tls.pins.len(), 1);
    }
}
