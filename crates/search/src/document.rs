//! From a record to what is indexed of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use chronik_records::Record;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use tantivy::schema::OwnedValue;
use tantivy::time::OffsetDateTime;
use tantivy::time::format_description::well_known::Rfc3339;
use tantivy::{DateTime, TantivyDocument};

use crate::fields::{Fields, HEADERS_ROOT, VALUE_ROOT, key_term};
use chronik_config::{FieldType, SearchSchema};

/// Fields of JSON values and headers that are indexed by name, for each topic. What has no place any more is found as a word of the value.
pub(crate) const PATHS_MAX: usize = 256;
/// Objects within objects, at most; what lies deeper is found as words of the value.
const DEPTH_MAX: usize = 8;
/// Of a longer text only so much is indexed: 1 MiB.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// A string without white space, up to this length, is one word.
const ONE_WORD_BYTES_MAX: usize = 64;
/// A string with white space, up to this length, is one word as well as several.
const FEW_WORDS_BYTES_MAX: usize = 32;
/// The longest name of a field.
const NAME_BYTES_MAX: usize = 256;

/// What kinds of values a field has had: bits.
pub(crate) mod kinds {
    /// Strings as one word.
    pub(crate) const WORD: u8 = 1;
    /// Strings as several words.
    pub(crate) const TEXT: u8 = 2;
    /// Numbers.
    pub(crate) const NUMBER: u8 = 4;
    /// True or false.
    pub(crate) const BOOL: u8 = 8;
    /// Dates.
    pub(crate) const DATE: u8 = 16;
}

/// The fields that are known of a topic, and what kinds of values they had. The names begin with the root.
pub(crate) type Paths = BTreeMap<String, u8>;

/// JSON that borrows from the record.
enum Json<'a> {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Str(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// A string that is borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonVisitor;
        impl<'de> Visitor<'de> for JsonVisitor {
            type Value = Json<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Json::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Json::I64(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Json::U64(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Json::F64(value))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Json::Str(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Json::Str(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Json::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(name), value)) = access.next_entry()? {
                    entries.push((name, value));
                }
                Ok(Json::Object(entries))
            }
        }
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// Makes documents of the records of one topic.
pub(crate) struct Documents<'a> {
    fields: &'a Fields,
    schema: &'a SearchSchema,
    /// Grows as fields are found.
    paths: &'a mut Paths,
    /// The name of the field that is being looked at, from its root on.
    path: String,
    /// Words of what has no field of its own.
    rest: String,
}

type Entries = Vec<(String, OwnedValue)>;

impl<'a> Documents<'a> {
    pub(crate) fn new(fields: &'a Fields, schema: &'a SearchSchema, paths: &'a mut Paths) -> Self {
        Self { fields, schema, paths, path: String::new(), rest: String::new() }
    }

    /// The document of a record.
    pub(crate) fn make(&mut self, partition: i32, record: &Record<'_>) -> TantivyDocument {
        let fields = self.fields;
        let mut document = TantivyDocument::default();
        document.add_u64(fields.partition, u64::from(partition.unsigned_abs()));
        document.add_i64(fields.offset, record.offset);
        document.add_date(
            fields.timestamp,
            DateTime::from_timestamp_millis(record.timestamp.clamp(-MILLIS_MAX, MILLIS_MAX)),
        );
        if let Some(key) = record.key {
            document.add_text(fields.key, key_term(key));
        }
        self.rest.clear();
        let (mut exact, mut text) = (Entries::new(), Entries::new());
        let mut root_exact = Entries::new();
        let mut root_text = Entries::new();
        match record.value.map(Value::of) {
            Some(Value::Object(entries)) => {
                self.start(VALUE_ROOT);
                self.object(entries, 0, &mut exact, &mut text);
                push_object(&mut root_exact, VALUE_ROOT, exact);
                push_object(&mut root_text, VALUE_ROOT, text);
            }
            Some(Value::Text(value)) => document.add_text(fields.value, cut(value)),
            Some(Value::Bytes) | None => {}
        }
        if !record.headers.is_empty() {
            let (mut exact, mut text) = (Entries::new(), Entries::new());
            self.start(HEADERS_ROOT);
            for header in record.headers {
                let name = std::str::from_utf8(header.key);
                let value = header.value.map(std::str::from_utf8);
                if let (Ok(name), Some(Ok(value))) = (name, value) {
                    self.entry(name.into(), Json::Str(value.into()), 0, &mut exact, &mut text);
                }
            }
            push_object(&mut root_exact, HEADERS_ROOT, exact);
            push_object(&mut root_text, HEADERS_ROOT, text);
        }
        if !root_exact.is_empty() {
            document.add_field_value(fields.exact, &OwnedValue::Object(root_exact));
        }
        if !root_text.is_empty() {
            document.add_field_value(fields.text, &OwnedValue::Object(root_text));
        }
        if !self.rest.is_empty() {
            document.add_text(fields.value, &self.rest);
        }
        document
    }

    fn start(&mut self, root: &str) {
        self.path.clear();
        self.path.push_str(root);
    }

    fn object(
        &mut self,
        entries: Vec<(Cow<'_, str>, Json<'_>)>,
        depth: usize,
        exact: &mut Entries,
        text: &mut Entries,
    ) {
        for (name, value) in entries {
            self.entry(name, value, depth, exact, text);
        }
    }

    fn entry(
        &mut self,
        name: Cow<'_, str>,
        value: Json<'_>,
        depth: usize,
        exact: &mut Entries,
        text: &mut Entries,
    ) {
        let length = self.path.len();
        self.path.push('.');
        self.path.push_str(&name);
        match value {
            Json::Object(entries) if depth < DEPTH_MAX => {
                let (mut inner_exact, mut inner_text) = (Entries::new(), Entries::new());
                self.object(entries, depth + 1, &mut inner_exact, &mut inner_text);
                push_object(exact, &name, inner_exact);
                push_object(text, &name, inner_text);
            }
            Json::Array(items) => {
                let (mut exacts, mut texts) = (Vec::new(), Vec::new());
                for item in items {
                    match item {
                        Json::Object(entries) if depth < DEPTH_MAX => {
                            let (mut inner_exact, mut inner_text) = (Entries::new(), Entries::new());
                            self.object(entries, depth + 1, &mut inner_exact, &mut inner_text);
                            if !inner_exact.is_empty() {
                                exacts.push(OwnedValue::Object(inner_exact));
                            }
                            if !inner_text.is_empty() {
                                texts.push(OwnedValue::Object(inner_text));
                            }
                        }
                        other => {
                            let (one, several) = self.leaf(other);
                            exacts.extend(one);
                            texts.extend(several);
                        }
                    }
                }
                if !exacts.is_empty() {
                    exact.push((name.clone().into_owned(), OwnedValue::Array(exacts)));
                }
                if !texts.is_empty() {
                    text.push((name.into_owned(), OwnedValue::Array(texts)));
                }
            }
            leaf => {
                let (one, several) = self.leaf(leaf);
                if let Some(several) = several {
                    text.push((name.clone().into_owned(), several));
                }
                if let Some(one) = one {
                    exact.push((name.into_owned(), one));
                }
            }
        }
        self.path.truncate(length);
    }

    /// What is indexed of a value that has no parts: as a whole, and as words.
    fn leaf(&mut self, value: Json<'_>) -> (Option<OwnedValue>, Option<OwnedValue>) {
        let wanted = match self.path.split_once('.') {
            Some((VALUE_ROOT, name)) => self.schema.of(name),
            _ => FieldType::Auto,
        };
        let (exact, text) = match (wanted, value) {
            (FieldType::None, _) | (_, Json::Null) => return (None, None),
            (FieldType::Auto, Json::Str(string)) => automatic(string),
            (FieldType::Text, value) => {
                (None, plain(value).map(|text| OwnedValue::Str(cut(&text).to_owned())))
            }
            (FieldType::Keyword, value) => {
                (plain(value).map(|text| OwnedValue::Str(text.into_owned())), None)
            }
            (FieldType::Long, value) => (as_long(&value).map(OwnedValue::I64), None),
            (FieldType::Double, value) => (as_double(&value).map(OwnedValue::F64), None),
            (FieldType::Boolean, value) => (as_bool(&value).map(OwnedValue::Bool), None),
            (FieldType::Date, value) => (as_date(&value).map(OwnedValue::Date), None),
            (FieldType::Auto, Json::Bool(value)) => (Some(OwnedValue::Bool(value)), None),
            (FieldType::Auto, Json::I64(value)) => (Some(OwnedValue::I64(value)), None),
            (FieldType::Auto, Json::U64(value)) => (Some(OwnedValue::U64(value)), None),
            (FieldType::Auto, Json::F64(value)) => (Some(OwnedValue::F64(value)), None),
            // Too deep, or a list within a list: its words are found.
            (FieldType::Auto, other) => {
                self.words_of(&other);
                return (None, None);
            }
        };
        let mut bits = match &exact {
            Some(OwnedValue::Str(_)) => kinds::WORD,
            Some(OwnedValue::Bool(_)) => kinds::BOOL,
            Some(OwnedValue::Date(_)) => kinds::DATE,
            Some(_) => kinds::NUMBER,
            None => 0,
        };
        if text.is_some() {
            bits |= kinds::TEXT;
        }
        if bits == 0 || self.note(bits) {
            return (exact, text);
        }
        for value in exact.into_iter().chain(text) {
            match value {
                OwnedValue::Str(text) => self.add_words(&text),
                OwnedValue::I64(number) => self.add_words(&number.to_string()),
                OwnedValue::U64(number) => self.add_words(&number.to_string()),
                OwnedValue::F64(number) => self.add_words(&number.to_string()),
                _ => {}
            }
        }
        (None, None)
    }

    /// Notes that the field has values of these kinds; false if there is no place for it.
    fn note(&mut self, bits: u8) -> bool {
        if let Some(known) = self.paths.get_mut(self.path.as_str()) {
            *known |= bits;
            return true;
        }
        let usable = self.path.len() <= NAME_BYTES_MAX && !self.path.contains(['\0', '\u{1}']);
        if self.paths.len() >= PATHS_MAX || !usable {
            return false;
        }
        self.paths.insert(self.path.clone(), bits);
        true
    }

    fn words_of(&mut self, value: &Json<'_>) {
        match value {
            Json::Null => {}
            Json::Bool(value) => self.add_words(if *value { "true" } else { "false" }),
            Json::I64(value) => self.add_words(&value.to_string()),
            Json::U64(value) => self.add_words(&value.to_string()),
            Json::F64(value) => self.add_words(&value.to_string()),
            Json::Str(text) => self.add_words(text),
            Json::Array(items) => items.iter().for_each(|item| self.words_of(item)),
            Json::Object(entries) => entries.iter().for_each(|(_, value)| self.words_of(value)),
        }
    }

    fn add_words(&mut self, text: &str) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.rest.len());
        if text.len() < room {
            self.rest.push('\n');
            self.rest.push_str(text);
        }
    }
}

/// Dates lie within what nanoseconds of 64 bits can say.
const MILLIS_MAX: i64 = i64::MAX / 1_000_000;

/// What a record's value is.
enum Value<'a> {
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
    Text(&'a str),
    Bytes,
}

impl<'a> Value<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if begins == Some(&b'{')
            && let Ok(Json::Object(entries)) = serde_json::from_slice(bytes)
        {
            return Value::Object(entries);
        }
        std::str::from_utf8(bytes).map_or(Value::Bytes, Value::Text)
    }
}

fn push_object(target: &mut Entries, name: &str, entries: Entries) {
    if !entries.is_empty() {
        target.push((name.to_owned(), OwnedValue::Object(entries)));
    }
}

/// A string of which nothing is known: a date, a word, a few words, or a text.
fn automatic(string: Cow<'_, str>) -> (Option<OwnedValue>, Option<OwnedValue>) {
    if let Some(date) = date(&string) {
        return (Some(OwnedValue::Date(date)), None);
    }
    let has_space = string.contains(char::is_whitespace);
    let one = string.len() <= if has_space { FEW_WORDS_BYTES_MAX } else { ONE_WORD_BYTES_MAX };
    match (one, has_space) {
        (true, false) => (Some(OwnedValue::Str(string.into_owned())), None),
        (true, true) => {
            let text = string.into_owned();
            (Some(OwnedValue::Str(text.clone())), Some(OwnedValue::Str(text)))
        }
        (false, _) => (None, Some(OwnedValue::Str(cut(&string).to_owned()))),
    }
}

/// The time that a string says as RFC 3339 has it.
pub(crate) fn date(text: &str) -> Option<DateTime> {
    let bytes = text.as_bytes();
    let looks_like = (20..=35).contains(&bytes.len())
        && bytes.first().is_some_and(u8::is_ascii_digit)
        && bytes.get(4) == Some(&b'-')
        && bytes.get(10).is_some_and(|byte| matches!(byte, b'T' | b't' | b' '));
    if !looks_like {
        return None;
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let nanoseconds = i64::try_from(time.unix_timestamp_nanos()).ok()?;
    Some(DateTime::from_timestamp_nanos(nanoseconds))
}

fn plain(value: Json<'_>) -> Option<Cow<'_, str>> {
    match value {
        Json::Str(text) => Some(text),
        Json::Bool(value) => Some(value.to_string().into()),
        Json::I64(value) => Some(value.to_string().into()),
        Json::U64(value) => Some(value.to_string().into()),
        Json::F64(value) => Some(value.to_string().into()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn as_long(value: &Json<'_>) -> Option<i64> {
    match value {
        Json::I64(value) => Some(*value),
        Json::U64(value) => i64::try_from(*value).ok(),
        Json::F64(value) => (value.fract() == 0.0 && value.abs() < 9e15).then_some(*value as i64),
        Json::Str(text) => text.parse().ok(),
        _ => None,
    }
}

fn as_double(value: &Json<'_>) -> Option<f64> {
    match value {
        Json::I64(value) => Some(*value as f64),
        Json::U64(value) => Some(*value as f64),
        Json::F64(value) => Some(*value),
        Json::Str(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    }
}

fn as_bool(value: &Json<'_>) -> Option<bool> {
    match value {
        Json::Bool(value) => Some(*value),
        Json::Str(text) => text.parse().ok(),
        _ => None,
    }
}

fn as_date(value: &Json<'_>) -> Option<DateTime> {
    match value {
        Json::Str(text) => date(text),
        other => {
            as_long(other).filter(|millis| millis.abs() < MILLIS_MAX).map(DateTime::from_timestamp_millis)
        }
    }
}

/// As much of a text as is indexed.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
