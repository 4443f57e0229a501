//! Writes a document within the budget of the process.

use bytes::Bytes;

use crate::runtime::json::{self, Object, Out, Style, Unmade, Value};
use crate::upstream::budget::Full;

use super::{xml, yaml};

/// Data and the language to write them in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Document<'d> {
    Json(&'d Value, Style),
    Xml(&'d Object),
    Yaml(&'d Object),
}

impl Document<'_> {
    /// The text, which is charged.
    ///
    /// # Errors
    /// The process holds too much already.
    pub(super) fn text(self) -> Result<Bytes, Full> {
        let hint = match self {
            Document::Json(data, _) => json::size_hint(data),
            // XML repeats the name of a list for each element.
            Document::Xml(_) | Document::Yaml(_) => usize::MAX,
        };
        json::made(&self, hint)
    }
}

impl Unmade for Document<'_> {
    fn write(&self, out: &mut impl Out) {
        match *self {
            Document::Json(data, style) => json::write(out, data, style),
            Document::Xml(data) => xml::write(out, data),
            Document::Yaml(data) => yaml::write(out, data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::json::{Count, Depth, parse};

    fn data(text: &str) -> Value {
        parse(&Bytes::from(text.to_owned()), Depth::Full).unwrap()
    }

    #[test]
    fn a_large_text_is_allocated_in_one_piece_of_its_size() {
        let many = format!(
            r##"{{"a":[{}"x"],"-b":"<","#text":"é\u2028","e":[],"o":{{"y":[[1,[2]],{{}}]}}}}"##,
            r#""<&>\"'\u0001 ", {"k": null, "no": "yes"}, "#.repeat(2000)
        );
        let value = data(&many);
        let Value::Object(object) = &value else {
            panic!("an object");
        };
        for document in [
            Document::Json(&value, Style::Canonical),
            Document::Xml(object),
            Document::Yaml(object),
        ] {
            let mut count = Count::default();
            document.write(&mut count);
            let mut text = Vec::new();
            document.write(&mut text);
            assert_eq!(count.size(), text.len());
            assert_eq!(document.text().unwrap(), text);
        }
    }

    #[test]
    fn a_text_beyond_the_limit_is_rejected_before_it_is_written() {
        // A name of 15 KB for each of 80,000 elements: 2.4 GB from a quarter of a megabyte.
        let elements = "1,".repeat(80_000);
        let text = format!(r#"{{"{}":[{elements}1]}}"#, "n".repeat(15_000));
        let value = data(&text);
        let Value::Object(object) = &value else {
            panic!("an object");
        };
        assert_eq!(Document::Xml(object).text(), Err(Full));
        assert!(Document::Yaml(object).text().is_ok());
    }
}
