//! The topic setting `search.schema`: how fields of JSON values are indexed.

use std::collections::BTreeMap;

/// How a field is indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldType {
    /// By what its values are.
    #[default]
    Auto,
    /// As one word, whatever its length.
    Keyword,
    /// As words.
    Text,
    /// As a whole number.
    Long,
    /// As a number.
    Double,
    /// As true or false.
    Boolean,
    /// As a time: RFC 3339, or milliseconds since the Unix epoch.
    Date,
    /// Not at all.
    None,
}

impl FieldType {
    const WORDS: &[(&str, FieldType)] = &[
        ("auto", FieldType::Auto),
        ("keyword", FieldType::Keyword),
        ("text", FieldType::Text),
        ("long", FieldType::Long),
        ("double", FieldType::Double),
        ("boolean", FieldType::Boolean),
        ("date", FieldType::Date),
        ("none", FieldType::None),
    ];
}

/// The fields that `search.schema` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchSchema {
    named: BTreeMap<String, FieldType>,
    others: FieldType,
}

impl SearchSchema {
    /// Reads `NAME:TYPE,NAME:TYPE…`; the name `*` stands for all that are not named. Empty text leaves all to what the values are.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut schema = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let types = || FieldType::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            let (name, word) = part.rsplit_once(':').ok_or_else(|| {
                format!("{part:?} is no NAME:TYPE, such as user.id:long; types are {}", types())
            })?;
            let (name, word) = (name.trim(), word.trim());
            let kind = FieldType::WORDS.iter().find(|(known, _)| *known == word);
            let (_, kind) =
                kind.ok_or_else(|| format!("the type {word:?} of {name:?} is none of {}", types()))?;
            match name {
                "" => return Err(format!("{part:?} names no field before its colon")),
                "*" => schema.others = *kind,
                _ => {
                    schema.named.insert(name.to_owned(), *kind);
                }
            }
        }
        Ok(schema)
    }

    /// How the field of this name is indexed. The parts of nested names are separated by dots.
    pub fn of(&self, name: &str) -> FieldType {
        self.named.get(name).copied().unwrap_or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_types() {
        let schema = SearchSchema::parse(" user.id:long, level:keyword ,*:none").unwrap();
        assert_eq!(schema.of("user.id"), FieldType::Long);
        assert_eq!(schema.of("level"), FieldType::Keyword);
        assert_eq!(schema.of("user"), FieldType::None);
        assert_eq!(SearchSchema::parse("").unwrap().of("a"), FieldType::Auto);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [("level", "NAME:TYPE"), ("a:number", "\"number\""), (":long", "no field")] {
            let error = SearchSchema::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
