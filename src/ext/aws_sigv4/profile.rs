//! The shared credentials file: `~/.aws/credentials`.

use super::signature::Keys;

/// The keys of a profile. `None` if the file has none for it.
pub(super) fn keys(text: &str, profile: &str) -> Option<Keys> {
    let (mut id, mut secret, mut session_token) = (None, None, None);
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            is_ours = name.split(']').next().map(str::trim) == Some(profile);
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_ours) else {
            continue;
        };
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match name.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => session_token = value,
            _ => {}
        }
    }
    Some(Keys {
        id: id?,
        secret: secret?,
        session_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_profile_are_found() {
        let text = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[ ci ]\n\
                    AWS_ACCESS_KEY_ID=C\naws_secret_access_key = D\naws_session_token = E\n[half]\naws_access_key_id = F\n";
        let of = |profile: &str| {
            keys(text, profile).map(|keys| (keys.id, keys.secret, keys.session_token))
        };
        assert_eq!(of("default"), Some(("A".into(), "B=".into(), None)));
        assert_eq!(of("ci"), Some(("C".into(), "D".into(), Some("E".into()))));
        assert_eq!(of("half"), None);
        assert_eq!(of("none"), None);
    }
}
