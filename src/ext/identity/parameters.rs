//! Configured parameters of token requests: `endpoint_params` and `resource`.

/// Parameters that a request may have more than once (RFC 8693 §2.1, RFC 8707 §2). Others must occur once (RFC 6749
/// §3.2).
const REPEATABLE: [&str; 2] = ["audience", "resource"];

/// A parameter and its type: neither may be sent without the other (RFC 8693 §2.1, RFC 7521 §4.2).
const PAIRS: [(&str, &str); 3] = [
    ("actor_token", "actor_token_type"),
    ("subject_token", "subject_token_type"),
    ("client_assertion", "client_assertion_type"),
];

/// Why a token server may reject `params`. `set` names the parameters that have a value elsewhere in the file.
pub(crate) fn unfit_parameters(params: &[(String, Vec<String>)], set: &[&str]) -> Vec<String> {
    let count = |name: &str| {
        let own = params.iter().filter(|(one, _)| one == name);
        own.map(|(_, values)| values.len()).sum::<usize>()
    };
    let mut unfit = Vec::new();
    for (name, values) in params {
        let is_repeatable = REPEATABLE.contains(&name.as_str());
        if !is_repeatable && set.contains(&name.as_str()) && !values.is_empty() {
            unfit.push(format!("{name:?} is already set by its own key"));
        } else if !is_repeatable && values.len() > 1 {
            unfit.push(format!(
                "{name:?} has {} values, and a request may have it only once (RFC 6749 §3.2)",
                values.len()
            ));
        }
        if name == "resource" {
            let wrong = values.iter().filter(|value| !is_resource(value));
            unfit.extend(wrong.map(|value| no_resource(value)));
        }
    }
    for (token, kind) in PAIRS {
        for (one, other) in [(token, kind), (kind, token)] {
            if count(one) > 0 && count(other) == 0 {
                unfit.push(format!("{one:?} is sent without {other:?}"));
            }
        }
    }
    unfit
}

/// The error about a value that is not a resource.
pub(crate) fn no_resource(text: &str) -> String {
    format!("{text:?} is not an absolute URI without a fragment (RFC 8693 §2.1)")
}

/// Whether this is an absolute URI without a fragment (RFC 8693 §2.1, RFC 8707 §2).
pub(crate) fn is_resource(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let is_absolute = scheme.is_some_and(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    is_absolute && !text.contains('#') && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, values)| {
                let values = values.iter().map(|&value| value.to_owned());
                ((*name).to_owned(), values.collect())
            })
            .collect()
    }

    #[test]
    fn a_request_has_each_parameter_once_and_both_of_a_pair() {
        for good in [
            params(&[
                ("audience", &["a", "b"]),
                ("resource", &["https://a/", "urn:b"]),
            ]),
            params(&[("actor_token", &["t"]), ("actor_token_type", &["urn:x"])]),
            params(&[
                ("actor_token", &[]),
                ("requested_token_use", &["on_behalf_of"]),
            ]),
            params(&[("scope", &[])]),
        ] {
            assert_eq!(unfit_parameters(&good, &["scope"]), [""; 0], "{good:?}");
        }
        for bad in [
            params(&[("custom", &["a", "b"])]),
            params(&[("scope", &["a"])]),
            params(&[("actor_token", &["t"])]),
            params(&[("actor_token_type", &["urn:x"])]),
            params(&[("actor_token", &[]), ("actor_token_type", &["urn:x"])]),
            params(&[("client_assertion", &["t"])]),
            params(&[("resource", &["/relative"])]),
            params(&[("resource", &["https://a/", "https://b/#f"])]),
        ] {
            assert_eq!(unfit_parameters(&bad, &["scope"]).len(), 1, "{bad:?}");
        }
    }
}
