//! `input_query_strings`: the query parameters that pass from the client to a backend.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use smallvec::SmallVec;

use crate::runtime::template::escape;

/// Which query parameters of the client pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryRules {
    /// These names, sorted and case-sensitive. Empty by default.
    Listed(Box<[Box<str>]>),
    All,
}

/// One decoded pair. It is bytes, because a client may have encoded something other than UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<'q> {
    pub name: Cow<'q, [u8]>,
    pub value: Cow<'q, [u8]>,
}

/// The pairs of a request that pass, sorted bytewise by name. Values of the same name keep their order.
pub(crate) type Pairs<'q> = SmallVec<[Pair<'q>; 8]>;

impl QueryRules {
    /// Compiles an endpoint's list. `*` lets all pairs pass.
    pub fn endpoint<S: AsRef<str>>(names: &[S]) -> QueryRules {
        if names.iter().any(|name| name.as_ref() == "*") {
            QueryRules::All
        } else {
            QueryRules::backend(names)
        }
    }

    /// Compiles a backend's list, which is the second filter. As in KrakenD, `*` is an ordinary name here.
    pub fn backend<S: AsRef<str>>(names: &[S]) -> QueryRules {
        let mut names: Vec<Box<str>> = names.iter().map(|name| name.as_ref().into()).collect();
        names.sort();
        names.dedup();
        QueryRules::Listed(names.into())
    }

    /// Whether pairs of this name pass.
    pub fn passes(&self, name: &[u8]) -> bool {
        match self {
            QueryRules::All => true,
            QueryRules::Listed(names) => names
                .binary_search_by(|known| known.as_bytes().cmp(name))
                .is_ok(),
        }
    }

    /// The pairs of a raw query that pass these rules and, if given, a backend's own filter.
    ///
    /// As in KrakenD, pairs with a `;` or an invalid escape are dropped, and so are empty pairs.
    pub fn pairs<'q>(&self, query: Option<&'q str>, backend: Option<&QueryRules>) -> Pairs<'q> {
        let mut pairs = Pairs::new();
        if matches!(self, QueryRules::Listed(names) if names.is_empty()) {
            return pairs;
        }
        for raw in query.unwrap_or_default().split('&') {
            if raw.is_empty() || raw.contains(';') || !escape::is_well_formed(raw) {
                continue;
            }
            let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
            let name = decode(name);
            if self.passes(&name) && backend.is_none_or(|rules| rules.passes(&name)) {
                let value = decode(value);
                pairs.push(Pair { name, value });
            }
        }
        pairs.sort_by(|a, b| a.name.cmp(&b.name));
        pairs
    }
}

/// Form decoding: `+` means a space.
fn decode(raw: &str) -> Cow<'_, [u8]> {
    if !raw.contains('+') {
        return percent_decode(raw.as_bytes()).into();
    }
    let blanks = raw.replace('+', " ");
    Cow::Owned(percent_decode(blanks.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::request::Params;
    use crate::runtime::router::Pattern;
    use crate::runtime::template::Template;

    /// The target that the backend with URL `url` receives.
    fn sent(url: &str, rules: &QueryRules, query: &str) -> String {
        let template = Template::parse(url, &Pattern::parse("/m", true).unwrap()).unwrap();
        let pairs = rules.pairs(Some(query), None);
        let target = template.render(&Params::default(), &pairs).unwrap();
        target.to_string()
    }

    fn listed(names: &[&str]) -> QueryRules {
        QueryRules::endpoint(names)
    }

    #[test]
    fn no_input_is_forwarded_by_default() {
        assert_eq!(sent("/u", &listed(&[]), "a=1&b=2"), "/u");
        assert_eq!(sent("/u?k=v", &listed(&[]), "a=1"), "/u?k=v");
    }

    #[test]
    fn listed_names_pass_with_all_values_sorted_by_name() {
        let all = listed(&["*"]);
        assert_eq!(
            sent("/u?fixed=1", &all, "a=1&a=2&B=4"),
            "/u?fixed=1&B=4&a=1&a=2"
        );
        assert_eq!(
            sent("/u", &listed(&["a"]), "a=1&a=2&b=0&a=3"),
            "/u?a=1&a=2&a=3"
        );
        assert_eq!(sent("/u", &listed(&["a"]), "A=1&a[]=1"), "/u");
        assert_eq!(sent("/u?k=v", &all, "k=w"), "/u?k=v&k=w");
    }

    #[test]
    fn pairs_are_decoded_and_encoded_again() {
        let all = listed(&["*"]);
        for (query, want) in [
            ("q=a%20b+c%2Bd&r=%C3%A9", "q=a+b+c%2Bd&r=%C3%A9"),
            ("q=a/b:c@d!$'()*,", "q=a%2Fb%3Ac%40d%21%24%27%28%29%2A%2C"),
            ("q=%22x%22&r=a=b", "q=%22x%22&r=a%3Db"),
            (
                "ids[]=1&ids%5B%5D=2&f[x]=y",
                "f%5Bx%5D=y&ids%5B%5D=1&ids%5B%5D=2",
            ),
            ("a", "a="),
            ("=x", "=x"),
            ("a=%FF", "a=%FF"),
        ] {
            assert_eq!(sent("/u", &all, query), format!("/u?{want}"));
        }
    }

    #[test]
    fn invalid_pairs_are_dropped() {
        let all = listed(&["*"]);
        assert_eq!(sent("/u", &all, "a=%zz&b=1"), "/u?b=1");
        assert_eq!(sent("/u", &all, "a=1;b=2&c=3"), "/u?c=3");
        assert_eq!(sent("/u", &all, "&&a=1&&"), "/u?a=1");
    }

    #[test]
    fn a_backend_filters_again() {
        let names = |rules: &QueryRules| -> Vec<Vec<u8>> {
            let pairs = listed(&["a", "b"]).pairs(Some("a=1&b=2&c=3"), Some(rules));
            pairs.iter().map(|pair| pair.name.to_vec()).collect()
        };
        assert_eq!(names(&QueryRules::backend(&["a", "c"])), [b"a"]);
        assert!(names(&QueryRules::backend(&["*"])).is_empty());
    }

    proptest! {
        #[test]
        fn an_arbitrary_query_does_not_panic_and_stays_on_one_line(query in "\\PC{0,60}") {
            let target = sent("/u", &QueryRules::All, &query);
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
}
