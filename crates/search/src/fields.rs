//! The fields of an index, and the words that texts are made of.
//!
//! | field | of each record |
//! |---|---|
//! | `partition` | its partition: indexed, and a column |
//! | `offset`, `timestamp` | columns |
//! | `key` | its key as one word |
//! | `value` | the words of a value that is no JSON object, with their positions |
//! | `exact` | what has one value in a JSON value or a header: numbers, booleans, dates, and strings of one word or few; as terms, and as columns |
//! | `text` | the words of longer strings in a JSON value or a header, with their positions |
//!
//! Nothing is stored: a hit is a partition and an offset, and the record is read from the log.

use tantivy::schema::{
    DateOptions, DateTimePrecision, Field, IndexRecordOption, JsonObjectOptions, NumericOptions, Schema,
    TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{
    LowerCaser, RawTokenizer, RemoveLongFilter, SimpleTokenizer, TextAnalyzer, TokenStream, TokenizerManager,
};

/// Splits at whatever is neither letter nor digit, and lowers.
const WORDS: &str = "chronik_words";
/// Takes all as one word, and lowers it.
const ONE_WORD: &str = "chronik_one_word";
/// Takes all as one word, as it is.
const RAW: &str = "raw";
/// A longer word is not indexed.
pub(crate) const WORD_BYTES_MAX: usize = 255;
/// Of a longer key, only so much is indexed.
pub(crate) const KEY_BYTES_MAX: usize = 512;

/// Under this name the fields of a JSON value lie in `exact` and `text`.
pub(crate) const VALUE_ROOT: &str = "v";
/// Under this name headers lie there.
pub(crate) const HEADERS_ROOT: &str = "h";

/// Names of the columns.
pub(crate) const PARTITION: &str = "partition";
pub(crate) const OFFSET: &str = "offset";
pub(crate) const TIMESTAMP: &str = "timestamp";
pub(crate) const EXACT: &str = "exact";

/// The fields of an index, by handle.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    pub(crate) partition: Field,
    pub(crate) offset: Field,
    pub(crate) timestamp: Field,
    pub(crate) key: Field,
    pub(crate) value: Field,
    pub(crate) exact: Field,
    pub(crate) text: Field,
}

impl Fields {
    /// The fields that every index has.
    pub(crate) fn new() -> Self {
        let mut builder = Schema::builder();
        let indexing = |tokenizer: &str, record| {
            TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(record)
        };
        let words = indexing(WORDS, IndexRecordOption::WithFreqsAndPositions);
        let one_word = indexing(ONE_WORD, IndexRecordOption::Basic).set_fieldnorms(false);
        let raw = indexing(RAW, IndexRecordOption::Basic).set_fieldnorms(false);
        let date = DateOptions::default().set_fast().set_precision(DateTimePrecision::Milliseconds);
        let partition = builder.add_u64_field(PARTITION, NumericOptions::default().set_indexed().set_fast());
        let offset = builder.add_i64_field(OFFSET, NumericOptions::default().set_fast());
        let timestamp = builder.add_date_field(TIMESTAMP, date);
        let key = builder.add_text_field("key", TextOptions::default().set_indexing_options(raw));
        let value =
            builder.add_text_field("value", TextOptions::default().set_indexing_options(words.clone()));
        let json = JsonObjectOptions::default().set_expand_dots_enabled();
        let exact = builder.add_json_field(EXACT, json.clone().set_indexing_options(one_word).set_fast(RAW));
        let text = builder.add_json_field("text", json.set_indexing_options(words));
        Self { schema: builder.build(), partition, offset, timestamp, key, value, exact, text }
    }
}

/// What splits texts into words, by name.
pub(crate) fn tokenizers() -> TokenizerManager {
    let manager = TokenizerManager::default();
    manager.register(WORDS, words_analyzer());
    manager.register(
        ONE_WORD,
        TextAnalyzer::builder(RawTokenizer::default())
            .filter(RemoveLongFilter::limit(WORD_BYTES_MAX + 1))
            .filter(LowerCaser)
            .build(),
    );
    manager
}

/// What splits longer texts.
pub(crate) fn words_analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(WORD_BYTES_MAX + 1))
        .filter(LowerCaser)
        .build()
}

/// The words of a text, with their positions in bytes.
pub(crate) fn words(text: &str) -> Vec<(String, std::ops::Range<usize>)> {
    let mut analyzer = words_analyzer();
    let mut stream = analyzer.token_stream(text);
    let mut words = Vec::new();
    while let Some(token) = stream.next() {
        words.push((token.text.clone(), token.offset_from..token.offset_to));
    }
    words
}

/// A key as a term. A key that is not UTF-8 is written in hexadecimal digits behind a zero. Keys that share the indexed part share the term,
/// so whoever needs one key looks at the record.
pub(crate) fn key_term(key: &[u8]) -> String {
    let part = key.get(..KEY_BYTES_MAX).unwrap_or(key);
    match std::str::from_utf8(part) {
        Ok(text) => text.to_owned(),
        // The cut may lie within a character.
        Err(error) if part.len() < key.len() && error.error_len().is_none() => {
            String::from_utf8_lossy(part.get(..error.valid_up_to()).unwrap_or_default()).into_owned()
        }
        Err(_) => {
            let mut term = String::with_capacity(1 + part.len() * 2);
            term.push('\0');
            for byte in part {
                for digit in [byte >> 4, byte & 15] {
                    term.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                }
            }
            term
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_terms() {
        assert_eq!(key_term(b"order-1"), "order-1");
        assert_eq!(key_term(&[0xff, 0x01]), "\0ff01");
        let long = "é".repeat(KEY_BYTES_MAX);
        assert_eq!(key_term(long.as_bytes()).len(), KEY_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(key_term(odd.as_bytes()).len(), KEY_BYTES_MAX - 1);
    }

    #[test]
    fn texts_are_split() {
        let split: Vec<_> = words("Connection reset, by-peer").into_iter().map(|(word, _)| word).collect();
        assert_eq!(split, ["connection", "reset", "by", "peer"]);
    }
}
