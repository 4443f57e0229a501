//! Where the keys come from, in the order of AWS's own libraries.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;

use super::signature::Keys;
use crate::config::Environment;

/// The address of the credentials of a container in ECS.
const CONTAINER: &str = "http://169.254.170.2";
const METADATA: &str = "http://169.254.169.254";

/// A source of keys, as the environment describes it.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    Fixed(Keys),
    WebIdentity {
        token_file: PathBuf,
        role: String,
        session: String,
        sts: String,
    },
    Container {
        url: String,
        token: Option<String>,
        token_file: Option<PathBuf>,
    },
    File {
        path: PathBuf,
        profile: String,
    },
    Metadata {
        base: String,
    },
    /// The environment names none, and the metadata of the machine are switched off.
    Nowhere,
}

impl Origin {
    /// The first source that the environment names. The metadata of the machine are the last resort.
    ///
    /// # Errors
    /// A source is named, but its address must not be called. The text is a sentence.
    pub(super) fn find(
        environment: &Environment,
        region: &str,
        session: &str,
    ) -> Result<Origin, String> {
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        if let (Some(id), Some(secret)) = (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            return Ok(Origin::Fixed(Keys {
                id: id.to_owned(),
                secret: secret.to_owned(),
                session_token: get("AWS_SESSION_TOKEN").map(str::to_owned),
            }));
        }
        if let (Some(file), Some(role)) = (get("AWS_WEB_IDENTITY_TOKEN_FILE"), get("AWS_ROLE_ARN"))
        {
            return Ok(Origin::WebIdentity {
                token_file: file.into(),
                role: role.to_owned(),
                session: get("AWS_ROLE_SESSION_NAME").unwrap_or(session).to_owned(),
                sts: sts(environment, region),
            });
        }
        if let Some(url) = container(&get) {
            if !is_of_container(&url) {
                return Err(format!(
                    "{url}: keys over http come only from this machine or from the container's agent"
                ));
            }
            return Ok(Origin::Container {
                url,
                token: get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
                token_file: get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from),
            });
        }
        let named = get("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let usual = || Some(PathBuf::from(get("HOME")?).join(".aws/credentials"));
        let profile = get("AWS_PROFILE");
        if let Some(path) = named.clone().or_else(usual)
            && (named.is_some() || profile.is_some() || path.exists())
        {
            return Ok(Origin::File {
                path,
                profile: profile.unwrap_or("default").to_owned(),
            });
        }
        if get("AWS_EC2_METADATA_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true")) {
            return Ok(Origin::Nowhere);
        }
        let base = get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(METADATA);
        Ok(Origin::Metadata {
            base: base.trim_end_matches('/').to_owned(),
        })
    }
}

impl Origin {
    /// A profile of the shared credentials file.
    pub(super) fn of_profile(environment: &Environment, profile: &str) -> Origin {
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let named = get("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let usual = || Some(PathBuf::from(get("HOME")?).join(".aws/credentials"));
        match named.or_else(usual) {
            Some(path) => Origin::File {
                path,
                profile: profile.to_owned(),
            },
            None => Origin::Nowhere,
        }
    }
}

/// The address of the token service.
pub(super) fn sts(environment: &Environment, region: &str) -> String {
    let named = environment
        .get("AWS_ENDPOINT_URL_STS")
        .filter(|url| !url.is_empty());
    match named {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("https://sts.{region}.amazonaws.com"),
    }
}

fn container<'e>(get: &impl Fn(&str) -> Option<&'e str>) -> Option<String> {
    if let Some(path) = get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Some(format!("{CONTAINER}{path}"));
    }
    get("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned)
}

/// Whether keys may come from this address: https, this machine, or one of the agents of ECS and EKS.
fn is_of_container(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let agents = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
    url.scheme_str() == Some("https")
        || url.scheme_str() == Some("http")
            && (host == "localhost"
                || address.is_ok_and(|address| {
                    address.is_loopback() || agents.contains(&&*address.to_string())
                }))
}
