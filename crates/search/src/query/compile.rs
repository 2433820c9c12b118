//! From a query as it is understood to one that the index answers.

use std::ops::Bound;

use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, EmptyQuery, ExistsQuery, FuzzyTermQuery,
    InvertedIndexRangeQuery, Occur, PhraseQuery, Query, RangeQuery, TermQuery,
};
use tantivy::schema::{DATE_TIME_PRECISION_INDEXED, Field, IndexRecordOption};
use tantivy::{DateTime, Term};

use super::ast::{Ast, Clauses};
use super::target::Target;
use crate::document::{PATHS_MAX, Paths, kinds};
use crate::fields::{EXACT, Fields, HEADERS_ROOT, VALUE_ROOT, WORD_BYTES_MAX, key_term, words};
use crate::time::{self, Time};

/// Why a query that is well written can't be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A value does not fit its field.
    #[error("{field} is compared with {value:?}: expected {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// What it could be.
        expected: &'static str,
    },
    /// The index can't do that.
    #[error("{0}")]
    Unsupported(String),
}

type Compiled = Result<Box<dyn Query>, CompileError>;

/// Makes queries for the index of one topic.
pub(crate) struct Compiler<'a> {
    pub(crate) fields: &'a Fields,
    pub(crate) paths: &'a Paths,
    /// The time, for `now` in queries: ms since the Unix epoch.
    pub(crate) now_ms: i64,
}

/// A place where words can be.
enum Place {
    Key,
    Value,
    /// A field by its full name, and the kinds of values that it has.
    Path(String, u8),
}

impl Compiler<'_> {
    pub(crate) fn compile(&self, ast: &Ast) -> Compiled {
        match ast {
            Ast::All => Ok(Box::new(AllQuery)),
            Ast::Nothing => Ok(Box::new(EmptyQuery)),
            Ast::Word(target, text) => self.phrase(target, text, 0),
            Ast::Phrase(target, text, slop) => self.phrase(target, text, *slop),
            Ast::Prefix(target, text) => self.everywhere(target, |place| Ok(self.prefix_at(place, text))),
            Ast::Fuzzy(target, text, distance) => {
                self.everywhere(target, |place| Ok(self.fuzzy_at(place, text, *distance)))
            }
            Ast::Range(target, from, to) => self.range(target, from, to),
            Ast::Exists(target) => self.exists(target),
            Ast::Bool(clauses) => self.clauses(clauses),
            Ast::Boost(ast, factor) => Ok(Box::new(BoostQuery::new(self.compile(ast)?, *factor))),
        }
    }

    fn clauses(&self, clauses: &Clauses) -> Compiled {
        let mut parts = Vec::new();
        for (occur, list) in [
            (Occur::Must, &clauses.must),
            (Occur::Should, &clauses.should),
            (Occur::MustNot, &clauses.must_not),
        ] {
            for ast in list {
                parts.push((occur, self.compile(ast)?));
            }
        }
        if clauses.must.is_empty() && clauses.should.is_empty() {
            parts.push((Occur::Must, Box::new(ConstScoreQuery::new(Box::new(AllQuery), 0.0))));
        }
        match clauses.minimum {
            Some(minimum) if minimum > clauses.should.len() => Ok(Box::new(EmptyQuery)),
            Some(minimum) if minimum > 0 => {
                Ok(Box::new(BooleanQuery::with_minimum_required_clauses(parts, minimum)))
            }
            _ => Ok(Box::new(BooleanQuery::new(parts))),
        }
    }

    fn phrase(&self, target: &Target, text: &str, slop: u32) -> Compiled {
        match target {
            Target::Timestamp | Target::Partition | Target::Offset => {
                let bound = Bound::Included(text.to_owned());
                self.range(target, &bound, &bound)
            }
            _ => self.everywhere(target, |place| Ok(self.phrase_at(place, text, slop))),
        }
    }

    /// Any of the places that a name stands for.
    fn everywhere(
        &self,
        target: &Target,
        mut make: impl FnMut(&Place) -> Result<Vec<Box<dyn Query>>, CompileError>,
    ) -> Compiled {
        let mut any = Vec::new();
        for place in self.places(target)? {
            any.extend(make(&place)?);
        }
        Ok(either(any))
    }

    fn places(&self, target: &Target) -> Result<Vec<Place>, CompileError> {
        let within = |root: &str| {
            let begin = format!("{root}.");
            let paths = self.paths.iter().filter(move |(path, _)| path.starts_with(&begin));
            paths.map(|(path, bits)| Place::Path(path.clone(), *bits))
        };
        Ok(match target {
            Target::Any => [Place::Key, Place::Value].into_iter().chain(within(VALUE_ROOT)).collect(),
            Target::Value => std::iter::once(Place::Value).chain(within(VALUE_ROOT)).collect(),
            Target::Key => vec![Place::Key],
            Target::Json(name) => self.named(VALUE_ROOT, name),
            Target::Header(name) => self.named(HEADERS_ROOT, name),
            Target::Timestamp | Target::Partition | Target::Offset => {
                return Err(CompileError::Unsupported(
                    "timestamp, partition and offset are numbers: they have a value or a range, no words"
                        .to_owned(),
                ));
            }
        })
    }

    fn named(&self, root: &str, name: &str) -> Vec<Place> {
        let path = format!("{root}.{name}");
        match self.paths.get(&path) {
            Some(bits) => vec![Place::Path(path, *bits)],
            // It may be one of those that have no place of their own.
            None if self.paths.len() >= PATHS_MAX => vec![Place::Value],
            None => Vec::new(),
        }
    }

    fn phrase_at(&self, place: &Place, text: &str, slop: u32) -> Vec<Box<dyn Query>> {
        match place {
            Place::Key => {
                let term = Term::from_field_text(self.fields.key, &key_term(text.as_bytes()));
                vec![Box::new(TermQuery::new(term, IndexRecordOption::Basic))]
            }
            Place::Value => {
                let term = |word: &str| Term::from_field_text(self.fields.value, word);
                self.in_order(text, slop, term).into_iter().collect()
            }
            Place::Path(path, bits) => {
                let mut any: Vec<Box<dyn Query>> = Vec::new();
                for term in self.exact_terms(path, *bits, text) {
                    any.push(Box::new(TermQuery::new(term, IndexRecordOption::Basic)));
                }
                if bits & kinds::TEXT != 0 {
                    any.extend(self.in_order(text, slop, |word| self.str_term(self.fields.text, path, word)));
                }
                any
            }
        }
    }

    /// What the text may be as a whole.
    fn exact_terms(&self, path: &str, bits: u8, text: &str) -> Vec<Term> {
        let base = || Term::from_field_json_path(self.fields.exact, path, true);
        let mut terms = Vec::new();
        if bits & kinds::WORD != 0 {
            terms.push(self.str_term(self.fields.exact, path, &text.to_lowercase()));
        }
        if bits & kinds::NUMBER != 0 {
            let mut term = base();
            match number(text) {
                Some(Number::I64(value)) => term.append_type_and_fast_value(value),
                Some(Number::U64(value)) => term.append_type_and_fast_value(value),
                Some(Number::F64(value)) => term.append_type_and_fast_value(value),
                None => return terms,
            }
            terms.push(term);
        }
        if bits & kinds::BOOL != 0
            && let Ok(value) = text.parse::<bool>()
        {
            let mut term = base();
            term.append_type_and_fast_value(value);
            terms.push(term);
        }
        if bits & kinds::DATE != 0
            && let Some(date) = crate::document::date(text)
        {
            let mut term = base();
            term.append_type_and_fast_value(date.truncate(DATE_TIME_PRECISION_INDEXED));
            terms.push(term);
        }
        terms
    }

    /// The words of a text, one after the other.
    fn in_order(&self, text: &str, slop: u32, term: impl Fn(&str) -> Term) -> Option<Box<dyn Query>> {
        let mut terms: Vec<Term> = words(text).iter().map(|(word, _)| term(word)).collect();
        match terms.len() {
            0 => None,
            1 => terms
                .pop()
                .map(|term| Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs)) as Box<dyn Query>),
            _ => {
                let terms = terms.into_iter().enumerate().collect();
                Some(Box::new(PhraseQuery::new_with_offset_and_slop(terms, slop)))
            }
        }
    }

    fn str_term(&self, field: Field, path: &str, text: &str) -> Term {
        let mut term = Term::from_field_json_path(field, path, true);
        term.append_type_and_str(text);
        term
    }

    fn prefix_at(&self, place: &Place, text: &str) -> Vec<Box<dyn Query>> {
        let lower = text.to_lowercase();
        match place {
            Place::Key => vec![starts_with(Term::from_field_text(self.fields.key, text))],
            Place::Value => vec![starts_with(Term::from_field_text(self.fields.value, &lower))],
            Place::Path(path, bits) => {
                self.word_fields(*bits).map(|field| starts_with(self.str_term(field, path, &lower))).collect()
            }
        }
    }

    fn fuzzy_at(&self, place: &Place, text: &str, distance: u8) -> Vec<Box<dyn Query>> {
        let lower = text.to_lowercase();
        if lower.len() > WORD_BYTES_MAX {
            return Vec::new();
        }
        let fuzzy = |term| Box::new(FuzzyTermQuery::new(term, distance, true)) as Box<dyn Query>;
        match place {
            Place::Key => vec![fuzzy(Term::from_field_text(self.fields.key, text))],
            Place::Value => vec![fuzzy(Term::from_field_text(self.fields.value, &lower))],
            Place::Path(path, bits) => {
                self.word_fields(*bits).map(|field| fuzzy(self.str_term(field, path, &lower))).collect()
            }
        }
    }

    fn word_fields(&self, bits: u8) -> impl Iterator<Item = Field> {
        let word = (bits & kinds::WORD != 0).then_some(self.fields.exact);
        let text = (bits & kinds::TEXT != 0).then_some(self.fields.text);
        word.into_iter().chain(text)
    }

    fn range(&self, target: &Target, from: &Bound<String>, to: &Bound<String>) -> Compiled {
        match target {
            Target::Timestamp => {
                let time = |text: &String, end: bool| {
                    let time = time::parse(text, self.now_ms);
                    let Time { start_ms, end_ms } = time.ok_or_else(|| CompileError::Value {
                        field: "timestamp",
                        value: text.clone(),
                        expected: time::EXPECTED,
                    })?;
                    let millis = if end { end_ms } else { start_ms };
                    Ok(Term::from_field_date(self.fields.timestamp, DateTime::from_timestamp_millis(millis)))
                };
                // A time that is a whole day or second lies between its ends.
                let from = match from {
                    Bound::Included(text) => Bound::Included(time(text, false)?),
                    Bound::Excluded(text) => Bound::Excluded(time(text, true)?),
                    Bound::Unbounded => Bound::Unbounded,
                };
                let to = match to {
                    Bound::Included(text) => Bound::Included(time(text, true)?),
                    Bound::Excluded(text) => Bound::Excluded(time(text, false)?),
                    Bound::Unbounded => Bound::Unbounded,
                };
                Ok(between(from, to))
            }
            Target::Offset => {
                let term = |text: &String| {
                    let number = text.parse::<i64>();
                    let number = number.map_err(|_| wrong_number("offset", text))?;
                    Ok(Term::from_field_i64(self.fields.offset, number))
                };
                Ok(between(bound(from, term)?, bound(to, term)?))
            }
            Target::Partition => {
                let term = |text: &String| {
                    let number = text.parse::<u64>().map_err(|_| wrong_number("partition", text))?;
                    Ok(Term::from_field_u64(self.fields.partition, number))
                };
                Ok(between(bound(from, term)?, bound(to, term)?))
            }
            Target::Key => {
                let term = |text: &String| Ok(Term::from_field_text(self.fields.key, text));
                Ok(Box::new(InvertedIndexRangeQuery::new(bound(from, term)?, bound(to, term)?)))
            }
            Target::Json(_) | Target::Header(_) => {
                self.everywhere(target, |place| Ok(self.range_at(place, from, to)))
            }
            Target::Any | Target::Value => Err(CompileError::Unsupported(
                "a range needs a field that it is of, such as latency:[10 TO 20]".to_owned(),
            )),
        }
    }

    fn range_at(&self, place: &Place, from: &Bound<String>, to: &Bound<String>) -> Vec<Box<dyn Query>> {
        let Place::Path(path, bits) = place else { return Vec::new() };
        let base = || Term::from_field_json_path(self.fields.exact, path, true);
        let mut any: Vec<Box<dyn Query>> = Vec::new();
        let as_number = |text: &String| {
            let mut term = base();
            match number(text)? {
                Number::I64(value) => term.append_type_and_fast_value(value),
                Number::U64(value) => term.append_type_and_fast_value(value),
                Number::F64(value) => term.append_type_and_fast_value(value),
            }
            Some(term)
        };
        let as_date = |text: &String| {
            let mut term = base();
            let millis = time::parse(text, self.now_ms)?.start_ms;
            term.append_type_and_fast_value(DateTime::from_timestamp_millis(millis));
            Some(term)
        };
        if bits & kinds::NUMBER != 0
            && let (Some(from), Some(to)) = (bound_of(from, as_number), bound_of(to, as_number))
        {
            // Both ends have to be of one type.
            let (from, to) = alike(from, to, &|value| {
                let mut term = base();
                term.append_type_and_fast_value(value);
                term
            });
            any.push(between(from, to));
        }
        if bits & kinds::DATE != 0
            && let (Some(from), Some(to)) = (bound_of(from, as_date), bound_of(to, as_date))
        {
            any.push(between(from, to));
        }
        if bits & kinds::WORD != 0 {
            let word = |text: &String| Some(self.str_term(self.fields.exact, path, &text.to_lowercase()));
            let (all_from, all_to) = span(self.str_term(self.fields.exact, path, ""));
            let or = |given: Option<Bound<Term>>, all: Bound<Term>| match given {
                Some(Bound::Unbounded) | None => all,
                Some(given) => given,
            };
            let (from, to) = (or(bound_of(from, word), all_from), or(bound_of(to, word), all_to));
            any.push(Box::new(InvertedIndexRangeQuery::new(from, to)));
        }
        any
    }

    fn exists(&self, target: &Target) -> Compiled {
        let (root, name) = match target {
            Target::Json(name) => (VALUE_ROOT, name),
            Target::Header(name) => (HEADERS_ROOT, name),
            Target::Key => {
                let least = Term::from_field_text(self.fields.key, "");
                return Ok(Box::new(InvertedIndexRangeQuery::new(Bound::Included(least), Bound::Unbounded)));
            }
            // Every record has these.
            Target::Any | Target::Value | Target::Timestamp | Target::Partition | Target::Offset => {
                return Ok(Box::new(AllQuery));
            }
        };
        let path = format!("{root}.{name}");
        let below = format!("{path}.");
        let mut any: Vec<Box<dyn Query>> = Vec::new();
        for (path, bits) in
            self.paths.iter().filter(|(known, _)| **known == path || known.starts_with(&below))
        {
            if bits & !kinds::TEXT != 0 {
                any.push(Box::new(ExistsQuery::new(format!("{EXACT}.{path}"), false)));
            }
            if bits & kinds::TEXT != 0 {
                let (from, to) = span(self.str_term(self.fields.text, path, ""));
                any.push(Box::new(InvertedIndexRangeQuery::new(from, to)));
            }
        }
        Ok(either(any))
    }
}

fn either(mut any: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    match any.len() {
        0 => Box::new(EmptyQuery),
        1 => any.swap_remove(0),
        _ => Box::new(BooleanQuery::union(any)),
    }
}

fn between(from: Bound<Term>, to: Bound<Term>) -> Box<dyn Query> {
    match (&from, &to) {
        (Bound::Unbounded, Bound::Unbounded) => Box::new(AllQuery),
        _ => Box::new(RangeQuery::new(from, to)),
    }
}

/// Terms that begin with this one.
fn starts_with(term: Term) -> Box<dyn Query> {
    let (from, to) = span(term);
    Box::new(InvertedIndexRangeQuery::new(from, to))
}

fn span(term: Term) -> (Bound<Term>, Bound<Term>) {
    let mut end = term.serialized_value_bytes().to_vec();
    // No byte of UTF-8 or of a type's code is the highest one.
    match end.last_mut() {
        Some(last) => *last = last.saturating_add(1),
        None => return (Bound::Included(term), Bound::Unbounded),
    }
    let mut after = term.clone();
    after.set_bytes(&end);
    (Bound::Included(term), Bound::Excluded(after))
}

fn bound(
    bound: &Bound<String>,
    term: impl Fn(&String) -> Result<Term, CompileError>,
) -> Result<Bound<Term>, CompileError> {
    Ok(match bound {
        Bound::Included(text) => Bound::Included(term(text)?),
        Bound::Excluded(text) => Bound::Excluded(term(text)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

/// `None` if the value is not of that kind.
fn bound_of(bound: &Bound<String>, term: impl Fn(&String) -> Option<Term>) -> Option<Bound<Term>> {
    Some(match bound {
        Bound::Included(text) => Bound::Included(term(text)?),
        Bound::Excluded(text) => Bound::Excluded(term(text)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

/// Two bounds as numbers with a fraction, unless both are whole ones.
fn alike(from: Bound<Term>, to: Bound<Term>, float: &dyn Fn(f64) -> Term) -> (Bound<Term>, Bound<Term>) {
    let kind = |bound: &Bound<Term>| match bound {
        Bound::Included(term) | Bound::Excluded(term) => term.value().json_path_type(),
        Bound::Unbounded => None,
    };
    match (kind(&from), kind(&to)) {
        (Some(one), Some(other)) if one != other => {
            let convert = |bound: Bound<Term>| match bound {
                Bound::Included(term) => Bound::Included(float(value_of(&term))),
                Bound::Excluded(term) => Bound::Excluded(float(value_of(&term))),
                Bound::Unbounded => Bound::Unbounded,
            };
            (convert(from), convert(to))
        }
        _ => (from, to),
    }
}

/// The number of a term that ends with one.
fn value_of(term: &Term) -> f64 {
    let bytes = term.serialized_value_bytes();
    let start = bytes.len().saturating_sub(8);
    let raw = bytes.get(start..).and_then(|tail| tail.try_into().ok()).map_or(0, u64::from_be_bytes);
    match term.value().json_path_type() {
        Some(tantivy::schema::Type::I64) => tantivy::u64_to_i64(raw) as f64,
        Some(tantivy::schema::Type::F64) => tantivy::u64_to_f64(raw),
        _ => raw as f64,
    }
}

enum Number {
    I64(i64),
    U64(u64),
    F64(f64),
}

/// A number as terms have it: whole where it is.
fn number(text: &str) -> Option<Number> {
    if let Ok(value) = text.parse::<i64>() {
        return Some(Number::I64(value));
    }
    if let Ok(value) = text.parse::<u64>() {
        return Some(Number::U64(value));
    }
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
    if value.fract() == 0.0 && value.abs() < 9.0e15 {
        return Some(Number::I64(value as i64));
    }
    Some(Number::F64(value))
}

fn wrong_number(field: &'static str, value: &str) -> CompileError {
    CompileError::Value { field, value: value.to_owned(), expected: "a whole number" }
}
