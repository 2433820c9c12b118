//! Elasticsearch's query DSL.

use std::ops::Bound;

use serde_json::{Map, Value};

use super::EsError;
use crate::query::{Ast, Clauses, Target, parse};

/// Queries within queries, at most.
const DEPTH_MAX: usize = 32;
/// Queries in one list.
const LIST_MAX: usize = 1024;

const KINDS: &str = "match_all, match_none, match, match_phrase, multi_match, term, terms, range, exists, prefix, fuzzy, \
                     bool, constant_score, query_string or simple_query_string";

/// Reads a query.
pub(crate) fn read(value: &Value, path: &str, depth: usize) -> Result<Ast, EsError> {
    if depth > DEPTH_MAX {
        return Err(EsError::new(path, format!("queries may be nested {DEPTH_MAX} deep")));
    }
    let (kind, inner) = only(value, path, &format!("an object with one query: {KINDS}"))?;
    let path = &format!("{path}.{kind}");
    match kind.as_str() {
        "match_all" => Ok(Ast::All),
        "match_none" => Ok(Ast::Nothing),
        "match" => matching(inner, path),
        "match_phrase" => {
            let (field, text, options) = named(inner, "query", path)?;
            let slop = options.and_then(|options| options.get("slop")).and_then(Value::as_u64);
            let slop = u32::try_from(slop.unwrap_or(0)).unwrap_or(u32::MAX).min(100);
            Ok(Ast::Phrase(Target::of(&field), text, slop))
        }
        "multi_match" => {
            let text = text_of(inner.get("query"), &format!("{path}.query"))?;
            let fields = inner.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
            let fields: Vec<String> = fields
                .iter()
                .filter_map(Value::as_str)
                .map(|field| field.split('^').next().unwrap_or(field).to_owned())
                .collect();
            if fields.is_empty() {
                return Ok(any_word(&Target::Any, &text, false));
            }
            Ok(Ast::any_of(fields.iter().map(|field| any_word(&Target::of(field), &text, false)).collect()))
        }
        "term" => {
            let (field, text, _) = named(inner, "value", path)?;
            Ok(Ast::Word(Target::of(&field), text))
        }
        "terms" => {
            let entries = inner.as_object().ok_or_else(|| EsError::new(path, "expected an object"))?;
            let field = entries.iter().find(|(name, _)| *name != "boost");
            let (field, values) = field.ok_or_else(|| EsError::new(path, "names no field"))?;
            let target = Target::of(field);
            let values = list(values, path)?;
            let words = values.iter().map(|value| Ok(Ast::Word(target.clone(), text_of(Some(value), path)?)));
            Ok(Ast::any_of(words.collect::<Result<_, _>>()?))
        }
        "range" => range(inner, path),
        "exists" => {
            let field = text_of(inner.get("field"), &format!("{path}.field"))?;
            Ok(Ast::Exists(Target::of(&field)))
        }
        "prefix" => {
            let (field, text, _) = named(inner, "value", path)?;
            Ok(Ast::Prefix(Target::of(&field), text))
        }
        "fuzzy" => {
            let (field, text, options) = named(inner, "value", path)?;
            let distance = options.and_then(|options| options.get("fuzziness")).and_then(Value::as_u64);
            let automatic = if text.chars().count() > 5 { 2 } else { 1 };
            let distance = distance.map_or(automatic, |distance| if distance >= 2 { 2 } else { 1 });
            Ok(Ast::Fuzzy(Target::of(&field), text, distance))
        }
        "bool" => boolean(inner, path, depth),
        "constant_score" => {
            let filter = inner.get("filter").ok_or_else(|| EsError::new(path, "expected a filter"))?;
            read(filter, &format!("{path}.filter"), depth + 1)
        }
        "query_string" | "simple_query_string" => {
            let text = text_of(inner.get("query"), &format!("{path}.query"))?;
            parse(&text).map_err(|error| EsError::new(&format!("{path}.query"), error.to_string()))
        }
        _ => Err(EsError::new(path, format!("this query is not known here: expected {KINDS}"))),
    }
}

/// `match`: any of the words, or all of them with `operator: and`.
fn matching(value: &Value, path: &str) -> Result<Ast, EsError> {
    let (field, text, options) = named(value, "query", path)?;
    let operator = options.and_then(|options| options.get("operator")).and_then(Value::as_str);
    let all = operator.is_some_and(|operator| operator.eq_ignore_ascii_case("and"));
    Ok(any_word(&Target::of(&field), &text, all))
}

fn any_word(target: &Target, text: &str, all: bool) -> Ast {
    let words: Vec<&str> = text.split_whitespace().take(LIST_MAX).collect();
    if words.len() <= 1 {
        return Ast::Word(target.clone(), text.trim().to_owned());
    }
    let mut each: Vec<Ast> = words.iter().map(|word| Ast::Word(target.clone(), (*word).to_owned())).collect();
    if all {
        return Ast::all_of(each);
    }
    // A field that is one word is found by all of them together.
    each.push(Ast::Word(target.clone(), text.to_owned()));
    Ast::any_of(each)
}

fn range(value: &Value, path: &str) -> Result<Ast, EsError> {
    let (field, bounds) = only(value, path, "an object with one field")?;
    let path = &format!("{path}.{field}");
    let bounds =
        bounds.as_object().ok_or_else(|| EsError::new(path, "expected an object with gte, gt, lte or lt"))?;
    let (mut from, mut to) = (Bound::Unbounded, Bound::Unbounded);
    for (name, value) in bounds.iter().filter(|(_, value)| !value.is_null()) {
        let text = || text_of(Some(value), &format!("{path}.{name}"));
        match name.as_str() {
            "gte" | "from" => from = Bound::Included(text()?),
            "gt" => from = Bound::Excluded(text()?),
            "lte" | "to" => to = Bound::Included(text()?),
            "lt" => to = Bound::Excluded(text()?),
            "format" | "boost" | "relation" | "time_zone" | "include_lower" | "include_upper" => {}
            _ => return Err(EsError::new(&format!("{path}.{name}"), "expected gte, gt, lte or lt")),
        }
    }
    Ok(Ast::Range(Target::of(field), from, to))
}

fn boolean(value: &Value, path: &str, depth: usize) -> Result<Ast, EsError> {
    let entries = value.as_object().ok_or_else(|| EsError::new(path, "expected an object"))?;
    let mut clauses = Clauses::default();
    for (name, value) in entries {
        let path = &format!("{path}.{name}");
        let target = match name.as_str() {
            "must" | "filter" => &mut clauses.must,
            "should" => &mut clauses.should,
            "must_not" => &mut clauses.must_not,
            "minimum_should_match" => {
                let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
                let number = number.and_then(|number| usize::try_from(number).ok());
                clauses.minimum = Some(number.ok_or_else(|| EsError::new(path, "expected a number"))?);
                continue;
            }
            "boost" | "_name" | "adjust_pure_negative" => continue,
            _ => {
                return Err(EsError::new(
                    path,
                    "expected must, filter, should, must_not or minimum_should_match",
                ));
            }
        };
        match value {
            Value::Array(_) => {
                for (index, one) in list(value, path)?.iter().enumerate() {
                    target.push(read(one, &format!("{path}[{index}]"), depth + 1)?);
                }
            }
            one => target.push(read(one, path, depth + 1)?),
        }
    }
    let is_empty = clauses.must.is_empty() && clauses.should.is_empty() && clauses.must_not.is_empty();
    Ok(if is_empty { Ast::All } else { Ast::Bool(clauses) })
}

/// The one entry of an object.
fn only<'a>(value: &'a Value, path: &str, expected: &str) -> Result<(&'a String, &'a Value), EsError> {
    let entries = value.as_object().filter(|entries| entries.len() == 1);
    let entry = entries.and_then(|entries| entries.iter().next());
    entry.ok_or_else(|| EsError::new(path, format!("expected {expected}")))
}

type Named<'a> = (String, String, Option<&'a Map<String, Value>>);

/// `{field: value}` or `{field: {name: value, …}}`.
fn named<'a>(value: &'a Value, name: &str, path: &str) -> Result<Named<'a>, EsError> {
    let (field, inner) = only(value, path, "an object with one field")?;
    let path = &format!("{path}.{field}");
    match inner {
        Value::Object(options) => {
            let text = text_of(options.get(name), &format!("{path}.{name}"))?;
            Ok((field.clone(), text, Some(options)))
        }
        other => Ok((field.clone(), text_of(Some(other), path)?, None)),
    }
}

fn list<'a>(value: &'a Value, path: &str) -> Result<&'a Vec<Value>, EsError> {
    let list = value.as_array().ok_or_else(|| EsError::new(path, "expected a list"))?;
    if list.len() > LIST_MAX {
        return Err(EsError::new(path, format!("has {} entries, the most is {LIST_MAX}", list.len())));
    }
    Ok(list)
}

/// A text, a number, or true and false as text.
fn text_of(value: Option<&Value>, path: &str) -> Result<String, EsError> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(value)) => Ok(value.to_string()),
        _ => Err(EsError::new(path, "expected a text or a number")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn word(name: &str, text: &str) -> Ast {
        Ast::Word(Target::of(name), text.to_owned())
    }

    #[test]
    fn queries_are_read() {
        let query = json!({"bool": {
            "must": [{"term": {"level": "error"}}, {"range": {"n": {"gte": 3, "lt": 9}}}],
            "filter": {"exists": {"field": "user"}},
            "must_not": [{"prefix": {"key": {"value": "a"}}}],
            "should": [{"match": {"msg": {"query": "a b", "operator": "and"}}}],
            "minimum_should_match": 1
        }});
        let mut clauses = match read(&query, "query", 0).unwrap() {
            Ast::Bool(clauses) => clauses,
            other => panic!("{other:?}"),
        };
        clauses.must.sort_by_key(|ast| format!("{ast:?}"));
        assert_eq!(
            clauses.must,
            [
                Ast::Exists(Target::of("user")),
                Ast::Range(Target::of("n"), Bound::Included("3".to_owned()), Bound::Excluded("9".to_owned())),
                word("level", "error"),
            ]
        );
        assert_eq!(clauses.must_not, [Ast::Prefix(Target::Key, "a".to_owned())]);
        assert_eq!(clauses.should, [Ast::all_of(vec![word("msg", "a"), word("msg", "b")])]);
        assert_eq!(clauses.minimum, Some(1));
    }

    #[test]
    fn errors_say_where() {
        let cases = [
            (json!({"bool": {"must": [{"regexp": {"a": "b"}}]}}), "query.bool.must[0].regexp"),
            (json!({"term": {"a": []}}), "query.term.a"),
            (json!({"range": {"a": {"above": 1}}}), "query.range.a.above"),
            (json!([]), "query"),
            (json!({"query_string": {"query": "a AND"}}), "query.query_string.query"),
        ];
        for (query, path) in cases {
            assert_eq!(read(&query, "query", 0).unwrap_err().path, path);
        }
        let mut deep = json!({"match_all": {}});
        for _ in 0..100 {
            deep = json!({"bool": {"must": deep}});
        }
        assert!(read(&deep, "query", 0).unwrap_err().problem.contains("deep"));
    }

    /// JSON of the words of the language.
    fn made_up(seed: &mut u64, depth: usize) -> Value {
        let names = [
            "bool",
            "must",
            "should",
            "term",
            "range",
            "match",
            "terms",
            "a",
            "gte",
            "query",
            "filter",
            "query_string",
            "prefix",
        ];
        let mut next = |below: u64| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) % below
        };
        match next(if depth > 5 { 4 } else { 10 }) {
            0 => Value::Null,
            1 => json!(next(5)),
            2 => json!(names[next(names.len() as u64) as usize]),
            3 => json!(["a*", "(", "~", "x:1"][next(4) as usize]),
            4 | 5 => (0..next(3)).map(|_| made_up(seed, depth + 1)).collect::<Vec<_>>().into(),
            _ => {
                let count = 1 + next(2);
                let mut entries = Map::new();
                for _ in 0..count {
                    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let name = names[(*seed >> 33) as usize % names.len()];
                    entries.insert(name.to_owned(), made_up(seed, depth + 1));
                }
                Value::Object(entries)
            }
        }
    }

    #[test]
    fn any_json_is_read_or_refused() {
        let mut seed = 7;
        let mut read_ones = 0;
        for _ in 0..50_000 {
            read_ones += usize::from(read(&made_up(&mut seed, 0), "query", 0).is_ok());
        }
        assert!(read_ones > 10, "{read_ones}");
    }
}
