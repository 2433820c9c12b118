//! A query as it is understood, whichever language it was written in.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::target::Target;

/// What records have to be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ast {
    /// Every record.
    All,
    /// None.
    Nothing,
    /// The text is in the field: as its whole value, or its words one after the other.
    Word(Target, String),
    /// These words are in the field, one after the other, with at most so many others between.
    Phrase(Target, String, u32),
    /// A word of the field begins so.
    Prefix(Target, String),
    /// A word of the field differs from this one by so many letters at most, 1 or 2.
    Fuzzy(Target, String, u8),
    /// The field's value lies between the two.
    Range(Target, Bound<String>, Bound<String>),
    /// The record has the field.
    Exists(Target),
    /// Several at once.
    Bool(Clauses),
    /// Counts so many times for the score.
    Boost(Box<Ast>, f32),
}

/// How several queries go together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clauses {
    /// All of these.
    pub must: Vec<Ast>,
    /// At least one of these, where there is no `must`; else they only count for the score, unless [`Clauses::minimum`] says how many.
    pub should: Vec<Ast>,
    /// None of these.
    pub must_not: Vec<Ast>,
    /// How many of `should` at least.
    pub minimum: Option<usize>,
}

impl Ast {
    /// All of these.
    pub(crate) fn all_of(must: Vec<Ast>) -> Ast {
        Ast::Bool(Clauses { must, ..Clauses::default() })
    }

    /// Any of these.
    pub(crate) fn any_of(should: Vec<Ast>) -> Ast {
        Ast::Bool(Clauses { should, ..Clauses::default() })
    }
}
