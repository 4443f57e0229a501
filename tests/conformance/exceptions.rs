//! The two lists of cases that need not pass: `deviations.toml` and `pending.toml`.

use std::path::Path;

use serde::Deserialize;

/// What a case is held to.
pub enum Expectation<'a> {
    /// The recorded answers.
    Same,
    /// Some difference, whose text contains these words.
    Differs(&'a str),
    /// To fail: what it shows is not built yet.
    Pending,
}

pub struct Exceptions {
    deviations: Vec<Deviation>,
    pending: Pending,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviations {
    #[serde(default)]
    deviation: Vec<Deviation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviation {
    case: String,
    why: Why,
    sentence: String,
    /// Words of the first difference, so that another difference in the same case is not excused.
    #[serde(default)]
    difference: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Why {
    Safety,
    Spec,
    NewFeature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    /// Areas of which nothing is built, so that every case fails.
    areas: Vec<String>,
    /// Cases in those areas that pass all the same, say because the file is refused in both worlds.
    #[serde(default)]
    except: Vec<String>,
    /// Single cases elsewhere that need one of those areas.
    #[serde(default)]
    cases: Vec<String>,
}

impl Exceptions {
    pub fn read(folder: &Path) -> Self {
        let text = |name| std::fs::read_to_string(folder.join(name)).unwrap();
        let deviations: Deviations = toml::from_str(&text("deviations.toml"))
            .unwrap_or_else(|e| panic!("deviations.toml: {e}"));
        let pending =
            toml::from_str(&text("pending.toml")).unwrap_or_else(|e| panic!("pending.toml: {e}"));
        for d in &deviations.deviation {
            let named = !d.sentence.trim().is_empty();
            assert!(
                named,
                "deviations.toml: {} ({:?}) has no sentence",
                d.case, d.why
            );
        }
        Self {
            deviations: deviations.deviation,
            pending,
        }
    }

    pub fn expectation(&self, case: &str) -> Expectation<'_> {
        if let Some(d) = self.deviations.iter().find(|d| d.case == case) {
            return Expectation::Differs(&d.difference);
        }
        let area = case.split('/').next().unwrap_or("");
        let listed = |list: &[String], name: &str| list.iter().any(|n| n == name);
        let p = &self.pending;
        if listed(&p.cases, case) || (listed(&p.areas, area) && !listed(&p.except, case)) {
            Expectation::Pending
        } else {
            Expectation::Same
        }
    }

    /// Names on the lists that no case bears.
    pub fn without_case(&self, names: &[String]) -> Vec<String> {
        let listed = self.deviations.iter().map(|d| &d.case);
        let listed = listed
            .chain(&self.pending.except)
            .chain(&self.pending.cases);
        let mut missing: Vec<String> = listed
            .filter(|case| !names.contains(case))
            .cloned()
            .collect();
        for area in &self.pending.areas {
            if !names.iter().any(|n| n.split('/').next() == Some(area)) {
                missing.push(area.clone());
            }
        }
        missing
    }
}
