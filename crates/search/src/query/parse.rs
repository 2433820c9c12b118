//! The query language: `level:error AND user.id:42`, as Lucene's is written.
//!
//! ```text
//! query   = or
//! or      = and (("OR" | "||") and)*
//! and     = (clause (("AND" | "&&")? clause)*            without an operator between them: all of them
//! clause  = ("NOT" | "!" | "-" | "+")? primary ("^" number)?
//! primary = "(" query ")" | field ":" value | value
//! value   = word | word"*" | word"~"n? | "phrase" ("~"n)? | range | (">" | ">=" | "<" | "<=") word | "(" query ")" | "*"
//! range   = ("[" | "{") bound "TO" bound ("]" | "}")
//! ```
//! A backslash takes the meaning from the character behind it.

use std::ops::Bound;

use super::ast::{Ast, Clauses};
use super::target::Target;

/// A query's text, at most.
pub const QUERY_BYTES_MAX: usize = 16 << 10;
/// Parentheses within parentheses, at most.
const DEPTH_MAX: usize = 32;
/// Words, phrases and ranges of one query, at most.
const CLAUSES_MAX: usize = 256;

/// What is wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position} of the query: expected {expected}, found {found}")]
pub struct ParseError {
    /// Where, in characters from 0.
    pub position: usize,
    /// What could stand there.
    pub expected: String,
    /// What does.
    pub found: String,
}

/// Reads a query. An empty one is every record.
///
/// # Errors
/// The first place where it can't be understood, and what was expected there.
pub fn parse(text: &str) -> Result<Ast, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(ParseError {
            position: 0,
            expected: format!("a query of at most {QUERY_BYTES_MAX} bytes"),
            found: format!("{} bytes", text.len()),
        });
    }
    let mut parser = Parser { chars: text.chars().collect(), at: 0, clauses: 0 };
    parser.skip_space();
    if parser.peek().is_none() {
        return Ok(Ast::All);
    }
    let ast = parser.either(&Target::Any, 0)?;
    match parser.peek() {
        None => Ok(ast),
        Some(_) => Err(parser.expected("AND, OR, or the end")),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    clauses: usize,
}

/// A word as it was written.
struct Word {
    text: String,
    /// Ended by a `*` that was not escaped.
    prefix: bool,
    /// Anything in it was escaped: it is no operator.
    escaped: bool,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn second(&self) -> Option<char> {
        self.chars.get(self.at + 1).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, wanted: char) -> bool {
        let is = self.peek() == Some(wanted);
        self.at += usize::from(is);
        is
    }

    /// Takes an operator that is a word by itself, or two signs.
    fn eat_operator(&mut self, word: &str, sign: &str) -> bool {
        for (text, is_word) in [(word, true), (sign, false)] {
            let length = text.chars().count();
            let there = self
                .chars
                .get(self.at..self.at + length)
                .is_some_and(|at| at.iter().copied().eq(text.chars()));
            let next = self.chars.get(self.at + length);
            let ends = !is_word || next.is_none_or(|next| next.is_whitespace() || *next == '(');
            if there && ends {
                self.at += length;
                self.skip_space();
                return true;
            }
        }
        false
    }

    fn expected(&self, expected: &str) -> ParseError {
        self.expected_at(self.at, expected)
    }

    fn expected_at(&self, position: usize, expected: &str) -> ParseError {
        let found = match self.chars.get(position) {
            Some(found) => format!("{found:?}"),
            None => "the end".to_owned(),
        };
        ParseError { position, expected: expected.to_owned(), found }
    }

    fn either(&mut self, target: &Target, depth: usize) -> Result<Ast, ParseError> {
        let mut any = vec![self.both(target, depth)?];
        while self.eat_operator("OR", "||") {
            any.push(self.both(target, depth)?);
        }
        Ok(if any.len() == 1 { any.swap_remove(0) } else { Ast::any_of(any) })
    }

    fn both(&mut self, target: &Target, depth: usize) -> Result<Ast, ParseError> {
        let mut clauses = Clauses::default();
        loop {
            let must_not = self.eat_operator("NOT", "!") || self.eat_sign('-');
            if !must_not {
                self.eat_sign('+');
            }
            let ast = self.boosted(target, depth)?;
            if must_not {
                clauses.must_not.push(ast)
            } else {
                clauses.must.push(ast)
            }
            if self.eat_operator("AND", "&&") {
                continue;
            }
            let ends = match self.peek() {
                None | Some(')') => true,
                Some('|') => self.second() == Some('|'),
                Some('O') => self.is_or(),
                Some(_) => false,
            };
            if ends {
                break;
            }
        }
        Ok(match (clauses.must.len(), clauses.must_not.len()) {
            (1, 0) => clauses.must.swap_remove(0),
            _ => Ast::Bool(clauses),
        })
    }

    fn is_or(&mut self) -> bool {
        let at = self.at;
        let is = self.eat_operator("OR", "||");
        self.at = at;
        is
    }

    fn eat_sign(&mut self, sign: char) -> bool {
        let is = self.peek() == Some(sign) && self.second().is_some_and(|next| !next.is_whitespace());
        self.at += usize::from(is);
        is
    }

    fn boosted(&mut self, target: &Target, depth: usize) -> Result<Ast, ParseError> {
        let mut ast = self.primary(target, depth)?;
        if self.eat('^') {
            let start = self.at;
            let number: f32 = self.number_text().parse().unwrap_or(0.0);
            if !(number > 0.0 && number <= 1000.0) {
                return Err(self.expected_at(start, "a number above 0, up to 1000"));
            }
            ast = Ast::Boost(Box::new(ast), number);
        }
        self.skip_space();
        Ok(ast)
    }

    fn primary(&mut self, target: &Target, depth: usize) -> Result<Ast, ParseError> {
        if depth >= DEPTH_MAX {
            return Err(self.expected(&format!("at most {DEPTH_MAX} levels of parentheses")));
        }
        if self.peek() == Some('(') {
            return self.group(target, depth);
        }
        if *target == Target::Any && self.peek() != Some('"') {
            let start = self.at;
            if let Some(word) = self.word(true)?
                && self.peek() == Some(':')
            {
                if word.prefix && word.text.is_empty() {
                    self.at += 1;
                    return self.value(&Target::Any, depth);
                }
                self.at += 1;
                let target = Target::of(&word.text);
                self.skip_space();
                return if self.peek() == Some('(') {
                    self.group(&target, depth)
                } else {
                    self.value(&target, depth)
                };
            }
            self.at = start;
        }
        self.value(target, depth)
    }

    fn group(&mut self, target: &Target, depth: usize) -> Result<Ast, ParseError> {
        self.at += 1;
        self.skip_space();
        let ast = self.either(target, depth + 1)?;
        if !self.eat(')') {
            return Err(self.expected("\")\""));
        }
        Ok(ast)
    }

    fn value(&mut self, target: &Target, _depth: usize) -> Result<Ast, ParseError> {
        self.clauses += 1;
        if self.clauses > CLAUSES_MAX {
            return Err(self.expected(&format!("at most {CLAUSES_MAX} words, phrases and ranges")));
        }
        match self.peek() {
            Some('"') => self.phrase(target),
            Some('[' | '{') => self.range(target),
            Some('>' | '<') => self.comparison(target),
            _ => self.plain(target),
        }
    }

    fn plain(&mut self, target: &Target) -> Result<Ast, ParseError> {
        let start = self.at;
        let word = self.word(*target == Target::Any)?;
        let Some(word) = word else {
            return Err(self.expected("a word, a \"phrase\", a range, or \"(\""));
        };
        let operator = matches!(word.text.as_str(), "AND" | "OR" | "NOT" | "TO");
        if operator && !word.escaped && !word.prefix {
            return Err(self.expected_at(
                start,
                &format!("a word, a \"phrase\", a range, or \"(\" where {} stands", word.text),
            ));
        }
        if word.prefix {
            return Ok(match (word.text.is_empty(), target) {
                (true, Target::Any) => Ast::All,
                (true, _) => Ast::Exists(target.clone()),
                (false, _) => Ast::Prefix(target.clone(), word.text),
            });
        }
        if self.eat('~') {
            let start = self.at;
            let distance = match self.number_text().as_str() {
                "" => {
                    if word.text.chars().count() > 5 {
                        2
                    } else {
                        1
                    }
                }
                "0" => return Ok(Ast::Word(target.clone(), word.text)),
                "1" => 1,
                "2" => 2,
                _ => return Err(self.expected_at(start, "0, 1 or 2 letters of difference")),
            };
            return Ok(Ast::Fuzzy(target.clone(), word.text, distance));
        }
        Ok(Ast::Word(target.clone(), word.text))
    }

    fn phrase(&mut self, target: &Target) -> Result<Ast, ParseError> {
        let text = self.quoted()?;
        let slop = if self.eat('~') {
            let start = self.at;
            let number = self.number_text().parse().ok().filter(|number| *number <= 100);
            number.ok_or_else(|| self.expected_at(start, "a number of words, up to 100"))?
        } else {
            0
        };
        Ok(Ast::Phrase(target.clone(), text, slop))
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(self.expected("\" at the end of the phrase")),
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') if self.second().is_some() => {
                    text.extend(self.second());
                    self.at += 2;
                }
                Some(other) => {
                    text.push(other);
                    self.at += 1;
                }
            }
        }
    }

    fn range(&mut self, target: &Target) -> Result<Ast, ParseError> {
        if *target == Target::Any {
            return Err(self.expected("FIELD: before a range"));
        }
        let inclusive = self.peek() == Some('[');
        self.at += 1;
        let from = self.bound()?;
        if !self.eat_operator("TO", "TO") {
            return Err(self.expected("TO"));
        }
        let to = self.bound()?;
        let to_inclusive = match self.peek() {
            Some(']') => true,
            Some('}') => false,
            _ => return Err(self.expected("\"]\" or \"}\"")),
        };
        self.at += 1;
        let bound = |text: Option<String>, inclusive| match (text, inclusive) {
            (None, _) => Bound::Unbounded,
            (Some(text), true) => Bound::Included(text),
            (Some(text), false) => Bound::Excluded(text),
        };
        Ok(Ast::Range(target.clone(), bound(from, inclusive), bound(to, to_inclusive)))
    }

    /// One end of a range; `None` for `*`.
    fn bound(&mut self) -> Result<Option<String>, ParseError> {
        self.skip_space();
        let bound = if self.peek() == Some('"') {
            Some(self.quoted()?)
        } else {
            let mut text = String::new();
            while let Some(next) =
                self.peek().filter(|next| !next.is_whitespace() && !"[]{}\"".contains(*next))
            {
                text.push(next);
                self.at += 1;
            }
            match text.as_str() {
                "" => return Err(self.expected("a value or *")),
                "*" => None,
                _ => Some(text),
            }
        };
        self.skip_space();
        Ok(bound)
    }

    fn comparison(&mut self, target: &Target) -> Result<Ast, ParseError> {
        if *target == Target::Any {
            return Err(self.expected("FIELD: before a comparison"));
        }
        let greater = self.eat('>');
        if !greater {
            self.at += 1;
        }
        let inclusive = self.eat('=');
        self.skip_space();
        let value = if self.peek() == Some('"') {
            self.quoted()?
        } else {
            let start = self.at;
            let word = self.word(false)?.filter(|word| !word.prefix && !word.text.is_empty());
            word.ok_or_else(|| self.expected_at(start, "a value"))?.text
        };
        let bound = if inclusive { Bound::Included(value) } else { Bound::Excluded(value) };
        let (from, to) = if greater { (bound, Bound::Unbounded) } else { (Bound::Unbounded, bound) };
        Ok(Ast::Range(target.clone(), from, to))
    }

    /// The word that begins here; with `is_name`, a colon ends it.
    fn word(&mut self, is_name: bool) -> Result<Option<Word>, ParseError> {
        let mut word = Word { text: String::new(), prefix: false, escaped: false };
        let start = self.at;
        while let Some(next) = self.peek() {
            match next {
                '\\' => {
                    let Some(second) = self.second() else {
                        self.at += 1;
                        return Err(self.expected("a character behind \"\\\""));
                    };
                    word.text.push(second);
                    word.escaped = true;
                    self.at += 2;
                    continue;
                }
                '*' => {
                    self.at += 1;
                    let ends = self
                        .peek()
                        .is_none_or(|next| next.is_whitespace() || matches!(next, ')' | ':' | '^'));
                    if !ends {
                        return Err(
                            self.expected("the end of the word: \"*\" stands at the end of a prefix only")
                        );
                    }
                    word.prefix = true;
                    break;
                }
                ':' if is_name => break,
                '(' | ')' | '"' | '[' | ']' | '{' | '}' | '^' | '~' => break,
                '|' if self.second() == Some('|') => break,
                '&' if self.second() == Some('&') => break,
                space if space.is_whitespace() => break,
                other => word.text.push(other),
            }
            self.at += 1;
        }
        Ok((self.at > start).then_some(word))
    }

    fn number_text(&mut self) -> String {
        let mut text = String::new();
        while let Some(next) = self.peek().filter(|next| next.is_ascii_digit() || *next == '.') {
            text.push(next);
            self.at += 1;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(name: &str) -> Target {
        Target::Json(name.to_owned())
    }

    fn word(name: &str, text: &str) -> Ast {
        Ast::Word(json(name), text.to_owned())
    }

    fn any(text: &str) -> Ast {
        Ast::Word(Target::Any, text.to_owned())
    }

    #[test]
    fn queries_are_understood() {
        let text = |text: &str| text.to_owned();
        let cases = [
            ("", Ast::All),
            ("*", Ast::All),
            ("*:*", Ast::All),
            ("error", any("error")),
            ("level:error AND user.id:42", Ast::all_of(vec![word("level", "error"), word("user.id", "42")])),
            ("level:error user.id:42", Ast::all_of(vec![word("level", "error"), word("user.id", "42")])),
            ("a OR b", Ast::any_of(vec![any("a"), any("b")])),
            ("a || b c", Ast::any_of(vec![any("a"), Ast::all_of(vec![any("b"), any("c")])])),
            (
                "a -b",
                Ast::Bool(Clauses { must: vec![any("a")], must_not: vec![any("b")], ..Clauses::default() }),
            ),
            ("NOT a", Ast::Bool(Clauses { must_not: vec![any("a")], ..Clauses::default() })),
            ("level:(a OR b)", Ast::any_of(vec![word("level", "a"), word("level", "b")])),
            ("msg:\"a \\\"b\\\"\"~2", Ast::Phrase(json("msg"), text("a \"b\""), 2)),
            ("key:ord*", Ast::Prefix(Target::Key, text("ord"))),
            ("name:smith~", Ast::Fuzzy(json("name"), text("smith"), 1)),
            ("headers.trace:abc", Ast::Word(Target::Header(text("trace")), text("abc"))),
            ("n:>=10", Ast::Range(json("n"), Bound::Included(text("10")), Bound::Unbounded)),
            ("n:{1 TO 5]", Ast::Range(json("n"), Bound::Excluded(text("1")), Bound::Included(text("5")))),
            (
                "timestamp:[2026-01-01T00:00:00Z TO *]",
                Ast::Range(
                    Target::Timestamp,
                    Bound::Included(text("2026-01-01T00:00:00Z")),
                    Bound::Unbounded,
                ),
            ),
            ("user:*", Ast::Exists(json("user"))),
            ("a^2", Ast::Boost(Box::new(any("a")), 2.0)),
            ("value.key:x", word("key", "x")),
            ("url:http\\://x", word("url", "http://x")),
            ("ts:12:30", word("ts", "12:30")),
            ("ORDER", any("ORDER")),
            ("city.keyword:Bern", word("city", "Bern")),
        ];
        for (query, expected) in cases {
            assert_eq!(parse(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        let cases = [
            ("level:", 6, "a word"),
            ("(a", 2, "\")\""),
            ("a)", 1, "the end"),
            ("\"a", 2, "\""),
            ("n:[1 5]", 5, "TO"),
            ("n:[1 TO 5", 9, "\"]\""),
            ("a AND", 5, "a word"),
            ("AND a", 0, "AND stands"),
            ("a^x", 2, "number"),
            ("a~7", 2, "0, 1 or 2"),
            ("[1 TO 2]", 0, "FIELD:"),
            ("a*b", 2, "prefix"),
        ];
        for (query, position, expected) in cases {
            let error = parse(query).unwrap_err();
            assert_eq!(error.position, position, "{query}: {error}");
            assert!(error.expected.contains(expected), "{query}: {error}");
        }
        assert!(parse(&"(".repeat(10_000)).unwrap_err().expected.contains("levels"));
        assert!(parse(&"a ".repeat(5_000)).unwrap_err().expected.contains("words"));
    }

    /// Texts of what the language is made of, and of anything: each is understood or refused.
    #[test]
    fn any_text_is_understood_or_refused() {
        let pieces = [
            "a",
            "b:",
            "c.d:",
            ":",
            "\"",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "~",
            "^",
            "*",
            "<",
            ">",
            "=",
            "|",
            "||",
            "&&",
            "!",
            "+",
            "-",
            "\\",
            " ",
            " TO ",
            " AND ",
            " OR ",
            "NOT ",
            "1",
            "2.5",
            "é",
            "\u{1f600}",
            "\0",
            "now-1h",
        ];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bits = seed;
            for _ in 0..(seed >> 60) {
                bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push_str(pieces[(bits >> 33) as usize % pieces.len()]);
            }
            if let Err(error) = parse(&text) {
                assert!(error.position <= text.chars().count(), "{text:?}: {error}");
            }
        }
    }
}
