//! Reads the schema tables of crates/protocol/schemas.
//!
//! A table is a text of lines. A block begins at the margin, its fields are indented by two spaces a level:
//! ```text
//! # comment
//! api 1 Fetch versions 4-18 flexible 12+        the request and response of an API
//! request                                        its struct is FetchRequest
//!   name   type   [versions] [null [versions]] [= default] [tag N]   [| what it means]
//!   topics [FetchTopic]                          a struct's fields follow it, one level deeper
//!     topic string 4-12
//! response
//! struct Cursor                                  a struct that several fields name
//! data OffsetCommitValue versions 0-4            a record's payload, which is no API
//! ```
//! Types: bool i8 i16 u16 i32 u32 i64 f64 uuid string bytes records, a struct's name, and `[T]` for arrays. A field
//! without versions is there whenever its struct is. `null` allows null (from the versions after it, if there are
//! any). `| text` documents a field; otherwise names.table, which says what each name means, does.

/// A range of versions; `last` is `i16::MAX` where the table leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    pub const ALL: Versions = Versions { first: 0, last: i16::MAX };

    pub fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    pub fn parse(text: &str) -> Option<Self> {
        if let Some(first) = text.strip_suffix('+') {
            return Some(Self { first: first.parse().ok()?, last: i16::MAX });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: Type,
    pub versions: Versions,
    /// Versions in which it may be null, if any.
    pub null: Option<Versions>,
    /// The default as written; none for zero, empty or false.
    pub default: Option<String>,
    pub tag: Option<u32>,
    pub doc: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Request,
    Response,
    Data,
    Nested,
}

#[derive(Clone, Debug)]
pub struct Block {
    pub role: Role,
    pub body: Struct,
    pub versions: Versions,
    /// The first version with tagged fields and compact lengths.
    pub flexible: Option<i16>,
}

#[derive(Clone, Debug)]
pub struct Schema {
    /// The file's name without its ending: the name of the module.
    pub module: String,
    /// Key and name of the API, if the file has one.
    pub api: Option<(i16, String)>,
    pub blocks: Vec<Block>,
}

impl Schema {
    pub fn find(&self, name: &str) -> Option<&Struct> {
        self.blocks.iter().map(|block| &block.body).find(|body| body.name == name)
    }
}

fn parse_type(text: &str) -> Type {
    if let Some(element) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Type::Array(Box::new(parse_type(element)));
    }
    match text {
        "bool" => Type::Bool,
        "i8" => Type::I8,
        "i16" => Type::I16,
        "u16" => Type::U16,
        "i32" => Type::I32,
        "u32" => Type::U32,
        "i64" => Type::I64,
        "f64" => Type::F64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        name => Type::Struct(name.to_owned()),
    }
}

fn parse_field(line: &str) -> Result<Field, String> {
    let (facts, doc) = match line.split_once('|') {
        Some((facts, doc)) => (facts, Some(doc.trim().to_owned())),
        None => (line, None),
    };
    let mut words = facts.split_whitespace().peekable();
    let (Some(name), Some(kind)) = (words.next(), words.next()) else {
        return Err(format!("expected `name type`, got {line:?}"));
    };
    let mut field = Field {
        name: name.to_owned(),
        kind: parse_type(kind),
        versions: Versions::ALL,
        null: None,
        default: None,
        tag: None,
        doc,
    };
    while let Some(word) = words.next() {
        match word {
            "null" => {
                let versions = words.peek().and_then(|next| Versions::parse(next));
                if versions.is_some() {
                    words.next();
                }
                field.null = Some(versions.unwrap_or(Versions::ALL));
            }
            "=" => field.default = Some(words.next().ok_or("`=` without a default")?.to_owned()),
            "tag" => {
                let number = words.next().ok_or("`tag` without a number")?;
                field.tag = Some(number.parse().map_err(|_| format!("{number:?} is no tag"))?);
            }
            versions => {
                field.versions = Versions::parse(versions)
                    .ok_or_else(|| format!("{versions:?} is no range of versions"))?;
            }
        }
    }
    Ok(field)
}

/// `versions A-B [flexible C+]`.
fn parse_versions(words: &[&str]) -> Result<(Versions, Option<i16>), String> {
    let versions = match words {
        ["versions", range, ..] => Versions::parse(range),
        _ => None,
    };
    let versions = versions.ok_or_else(|| format!("expected `versions A-B`, got {words:?}"))?;
    let flexible = match &words[2..] {
        [] => None,
        ["flexible", range] => Some(Versions::parse(range).ok_or("bad range after `flexible`")?.first),
        rest => return Err(format!("expected `flexible N+`, got {rest:?}")),
    };
    Ok((versions, flexible))
}

/// Reads one table. Errors name the line.
pub fn parse(module: &str, text: &str) -> Result<Schema, String> {
    let mut schema = Schema { module: module.to_owned(), api: None, blocks: Vec::new() };
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_end()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    let mut range = (Versions::ALL, None);
    while let Some((number, line)) = lines.next() {
        let fail = |error: String| format!("{module}.schema:{number}: {error}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let api_name = schema.api.as_ref().map(|(_, name)| name.clone()).unwrap_or_default();
        let (role, name) = match words.as_slice() {
            ["api", key, name, rest @ ..] => {
                let key = key.parse().map_err(|_| fail(format!("{key:?} is no API key")))?;
                schema.api = Some((key, (*name).to_owned()));
                range = parse_versions(rest).map_err(fail)?;
                continue;
            }
            ["request"] => (Role::Request, format!("{api_name}Request")),
            ["response"] => (Role::Response, format!("{api_name}Response")),
            ["struct", name] => (Role::Nested, (*name).to_owned()),
            ["data", name, rest @ ..] => {
                range = parse_versions(rest).map_err(fail)?;
                (Role::Data, (*name).to_owned())
            }
            _ => return Err(fail(format!("{line:?} begins no block"))),
        };
        let mut nested = Vec::new();
        let body = parse_fields(module, name, 1, &mut lines, &mut nested)?;
        let (versions, flexible) = range;
        schema.blocks.push(Block { role, body, versions, flexible });
        let nested = nested.into_iter().map(|body| Block { role: Role::Nested, body, versions, flexible });
        schema.blocks.extend(nested);
    }
    Ok(schema)
}

/// Reads the fields at `depth`; what lies deeper are the fields of the struct that the last field names.
fn parse_fields<'a>(
    module: &str,
    name: String,
    depth: usize,
    lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'a str)>>,
    nested: &mut Vec<Struct>,
) -> Result<Struct, String> {
    let mut fields: Vec<Field> = Vec::new();
    while let Some((number, line)) = lines.peek().copied() {
        let indent = line.len() - line.trim_start().len();
        if indent < depth * 2 {
            break;
        }
        if indent > depth * 2 {
            let inner = match fields.last().map(|field| &field.kind) {
                Some(Type::Struct(inner)) => inner.clone(),
                Some(Type::Array(element)) => match element.as_ref() {
                    Type::Struct(inner) => inner.clone(),
                    _ => {
                        return Err(format!("{module}.schema:{number}: fields under an array of no structs"));
                    }
                },
                _ => return Err(format!("{module}.schema:{number}: fields under a field that is no struct")),
            };
            // The struct goes in front of those inside it, so that the file reads from the outside in.
            let at = nested.len();
            let body = parse_fields(module, inner, depth + 1, lines, nested)?;
            nested.insert(at, body);
            continue;
        }
        fields.push(parse_field(line).map_err(|error| format!("{module}.schema:{number}: {error}"))?);
        lines.next();
    }
    Ok(Struct { name, fields })
}
