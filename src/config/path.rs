//! The location of a cursor: a list of steps from the root, which is printed as an RFC 6901 pointer only for
//! messages.

use std::rc::Rc;

/// A location in the tree. Cheap to clone and to extend.
#[derive(Debug, Clone, Default)]
pub struct Path(Option<Rc<Link>>);

#[derive(Debug)]
struct Link {
    parent: Path,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Key(Box<str>),
    Index(usize),
}

impl Path {
    pub fn root() -> Path {
        Path(None)
    }

    pub fn key(&self, name: &str) -> Path {
        self.step(Step::Key(name.into()))
    }

    pub fn index(&self, index: usize) -> Path {
        self.step(Step::Index(index))
    }

    /// The pointer according to RFC 6901 §3: `~` and `/` in names are escaped.
    pub fn pointer(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// The keys from this location up to the root. `None` is an index.
    pub(super) fn steps(&self) -> impl Iterator<Item = Option<&str>> {
        let links = std::iter::successors(self.0.as_deref(), |link| link.parent.0.as_deref());
        links.map(|link| match &link.step {
            Step::Key(name) => Some(&**name),
            Step::Index(_) => None,
        })
    }

    fn step(&self, step: Step) -> Path {
        Path(Some(Rc::new(Link {
            parent: self.clone(),
            step,
        })))
    }

    fn write(&self, out: &mut String) {
        let Some(link) = &self.0 else { return };
        link.parent.write(out);
        out.push('/');
        match &link.step {
            Step::Key(name) => out.push_str(&token(name)),
            Step::Index(index) => out.push_str(&index.to_string()),
        }
    }
}

/// A name as escaped in a JSON pointer (RFC 6901 §3).
pub(crate) fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_in_names_are_escaped_in_the_pointer() {
        let path = Path::root()
            .key("endpoints")
            .index(3)
            .key("auth/validator~");
        assert_eq!(path.pointer(), "/endpoints/3/auth~1validator~0");
    }
}
