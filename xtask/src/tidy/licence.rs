//! Licence expressions (SPDX): `MIT OR (Apache-2.0 AND BSD-3-Clause)`.

/// Licences that may be linked into an Apache-2.0 binary without further duties than naming them.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// True when the expression can be satisfied with licences on the list.
pub fn allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0 };
    let result = parser.either()?;
    match parser.peek() {
        None => Ok(result),
        Some(word) => Err(format!("unexpected \"{word}\"")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn takes(&mut self, word: &str) -> bool {
        let taken = self.peek() == Some(word);
        self.at += usize::from(taken);
        taken
    }

    fn either(&mut self) -> Result<bool, String> {
        let mut result = self.both()?;
        while self.takes("OR") {
            result |= self.both()?;
        }
        Ok(result)
    }

    fn both(&mut self) -> Result<bool, String> {
        let mut result = self.one()?;
        while self.takes("AND") {
            result &= self.one()?;
        }
        Ok(result)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.takes("(") {
            let result = self.either()?;
            return if self.takes(")") { Ok(result) } else { Err("a bracket is not closed".to_owned()) };
        }
        let name = self.peek().ok_or("it ends too early")?;
        self.at += 1;
        if self.takes("WITH") {
            let exception = self.peek().ok_or("it ends after WITH")?;
            self.at += 1;
            return Ok(
                ALLOWED.contains(&format!("{name} WITH {exception}").as_str()) || ALLOWED.contains(&name)
            );
        }
        Ok(ALLOWED.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn a_choice_needs_one_and_a_conjunction_needs_all() {
        assert_eq!(allowed("MIT OR GPL-3.0"), Ok(true));
        assert_eq!(allowed("MIT AND GPL-3.0"), Ok(false));
        assert_eq!(allowed("GPL-3.0 OR (MIT AND ISC)"), Ok(true));
        assert_eq!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"), Ok(true));
        assert_eq!(allowed("Apache-2.0 WITH LLVM-exception"), Ok(true));
        assert_eq!(allowed("MIT/Apache-2.0"), Ok(true));
        assert_eq!(allowed("AGPL-3.0-only"), Ok(false));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(allowed("(MIT").is_err());
        assert!(allowed("MIT MIT").is_err());
        assert!(allowed("").is_err());
    }
}
