//! The words that a query is after, to show them in what it found.

use std::ops::Range;

use super::ast::Ast;
use super::target::Target;
use crate::fields::words;

/// A shown part of a text, in bytes.
const FRAGMENT_BYTES: usize = 160;
/// Parts shown of one field.
const FRAGMENTS_MAX: usize = 3;

/// What a query looks for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    words: Vec<(Target, Pattern)>,
}

#[derive(Debug)]
enum Pattern {
    Word(String),
    Prefix(String),
}

impl Wanted {
    /// The words of a query, without those that it excludes.
    pub(crate) fn of(ast: &Ast) -> Self {
        let mut wanted = Self::default();
        wanted.add(ast);
        wanted
    }

    fn add(&mut self, ast: &Ast) {
        match ast {
            Ast::Word(target, text) | Ast::Phrase(target, text, _) => {
                let found = words(text).into_iter().map(|(word, _)| (target.clone(), Pattern::Word(word)));
                self.words.extend(found);
            }
            Ast::Prefix(target, text) => {
                self.words.push((target.clone(), Pattern::Prefix(text.to_lowercase())));
            }
            // A likely spelling begins alike.
            Ast::Fuzzy(target, text, _) => {
                let begin: String =
                    text.to_lowercase().chars().take(text.chars().count().max(3) - 2).collect();
                self.words.push((target.clone(), Pattern::Prefix(begin)));
            }
            Ast::Bool(clauses) => clauses.must.iter().chain(&clauses.should).for_each(|ast| self.add(ast)),
            Ast::Boost(ast, _) => self.add(ast),
            Ast::All | Ast::Nothing | Ast::Range(..) | Ast::Exists(_) => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Parts of a field's text with what was found between `<em>` and `</em>`. The text is as it is: whoever shows it as HTML escapes it
    /// before.
    pub(crate) fn fragments(&self, field: &Target, text: &str) -> Vec<String> {
        let of_field = |target: &Target| {
            target == field
                || match target {
                    Target::Any => true,
                    Target::Value => matches!(field, Target::Json(_)),
                    _ => false,
                }
        };
        let is_wanted = |word: &str| {
            self.words.iter().any(|(target, pattern)| {
                of_field(target)
                    && match pattern {
                        Pattern::Word(wanted) => wanted == word,
                        Pattern::Prefix(prefix) => word.starts_with(prefix.as_str()),
                    }
            })
        };
        let found: Vec<Range<usize>> =
            words(text).into_iter().filter(|(word, _)| is_wanted(word)).map(|(_, range)| range).collect();
        let mut fragments = Vec::new();
        let mut next = found.as_slice();
        while let Some(first) = next.first()
            && fragments.len() < FRAGMENTS_MAX
        {
            let start = floor(text, first.start.saturating_sub(FRAGMENT_BYTES / 4));
            let end = floor(text, (start + FRAGMENT_BYTES).max(first.end).min(text.len()));
            let within = next.iter().take_while(|range| range.end <= end).count().max(1);
            let (these, rest) = next.split_at_checked(within).unwrap_or((next, &[]));
            fragments.push(mark(text, start, end, these));
            next = rest;
        }
        fragments
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn mark(text: &str, start: usize, end: usize, found: &[Range<usize>]) -> String {
    let piece = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let mut marked = String::new();
    let mut at = start;
    for range in found {
        marked.push_str(piece(at, range.start));
        marked.push_str("<em>");
        marked.push_str(piece(range.start, range.end));
        marked.push_str("</em>");
        at = range.end;
    }
    marked.push_str(piece(at, end.max(at)));
    marked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::parse;

    #[test]
    fn what_was_found_is_marked() {
        let wanted = Wanted::of(&parse("reset msg:conn* -other").unwrap());
        let field = Target::Json("msg".to_owned());
        assert_eq!(
            wanted.fragments(&field, "Connection reset by other"),
            ["<em>Connection</em> <em>reset</em> by other"]
        );
        let other = Target::Json("b".to_owned());
        assert_eq!(wanted.fragments(&other, "connection, Reset!"), ["connection, <em>Reset</em>!"]);
        assert!(wanted.fragments(&other, "nothing").is_empty());
        let long = format!("{} reset {}", "é".repeat(300), "ü".repeat(300));
        let fragments = wanted.fragments(&other, &long);
        assert!(fragments[0].contains("<em>reset</em>") && fragments[0].len() < 200);
    }
}
