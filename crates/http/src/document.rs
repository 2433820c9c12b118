//! The OpenAPI document, made of the operations that are served.

use axum::http::Method;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::error::ErrorBody;
use crate::operation::{Content, JSON, Operation, SchemaOf};

/// Operations that belong together.
pub(crate) struct Group<'a> {
    pub(crate) tag: &'static str,
    pub(crate) about: &'static str,
    pub(crate) operations: Vec<&'a Operation>,
}

/// What may happen to every operation.
const REFUSALS: [(u16, &str); 7] = [
    (400, "The request can't be read"),
    (403, "The request is not allowed here"),
    (414, "The address is too long"),
    (421, "The node isn't known by this name"),
    (431, "The headers are too long"),
    (500, "The node failed; its log says how"),
    (503, "It took too long, or can't be done now"),
];

/// What may happen to those with a body, besides.
const REFUSALS_OF_BODIES: [(u16, &str); 2] =
    [(413, "The body is too large"), (415, "The body is of another type")];

/// The document of these groups.
pub(crate) fn render(groups: &[Group<'_>]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for group in groups {
        for one in &group.operations {
            let described = operation(group.tag, one, &mut generator);
            let path = paths.entry(one.path).or_insert_with(|| json!({}));
            if let Some(methods) = path.as_object_mut() {
                methods.insert(one.method.as_str().to_ascii_lowercase(), described);
            }
        }
    }
    let tags = groups.iter().map(|group| json!({ "name": group.tag, "description": group.about }));
    let tags: Vec<Value> = tags.collect();
    let schemas = generator.take_definitions(true);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Chronik",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a node serves over HTTP, on the port of its Kafka protocol.",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas },
    });
    bound_integers(&mut document);
    document
}

fn operation(tag: &str, operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.required,
                "description": parameter.about,
                "schema": not_null(schema(parameter.schema, generator)),
            })
        })
        .collect();
    let mut described = json!({
        "tags": [tag],
        "operationId": operation.id,
        "summary": operation.about,
        "parameters": parameters,
        "responses": responses(operation, generator),
    });
    if let (Some(first), Some(described)) = (operation.bodies.first(), described.as_object_mut()) {
        let mut content = Map::new();
        for body in &operation.bodies {
            content.insert(body.media_type.to_owned(), json!({ "schema": schema(body.schema, generator) }));
        }
        let body = json!({ "description": first.about, "required": true, "content": content });
        described.insert("requestBody".to_owned(), body);
    }
    described
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let mut add = |status: u16, about: &str, media_type: &str, schema: Value| {
        let response = responses
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": about, "content": {} }));
        if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) {
            content.insert(media_type.to_owned(), json!({ "schema": schema }));
        }
    };
    for (status, Content { media_type, about, schema: of }) in &operation.answers {
        add(*status, about, media_type, schema(*of, generator));
    }
    let error: SchemaOf = |generator| generator.subschema_for::<ErrorBody>();
    for (status, content, about) in &operation.refusals {
        add(
            *status,
            about,
            JSON,
            schema(content.as_ref().map_or(error, |content| content.schema), generator),
        );
    }
    let has_body = !operation.bodies.is_empty() || operation.method != Method::GET;
    let of_bodies = REFUSALS_OF_BODIES.iter().filter(|_| has_body);
    let said: Vec<u16> = operation
        .answers
        .iter()
        .map(|(status, _)| *status)
        .chain(operation.refusals.iter().map(|r| r.0))
        .collect();
    for (status, about) in REFUSALS.iter().chain(of_bodies).filter(|(status, _)| !said.contains(status)) {
        add(*status, about, JSON, schema(error, generator));
    }
    Value::Object(responses)
}

fn schema(of: SchemaOf, generator: &mut SchemaGenerator) -> Value {
    of(generator).to_value()
}

/// A parameter that isn't there is left out; it has no null.
fn not_null(mut schema: Value) -> Value {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
    }
    schema
}

/// Says of each integer what its type holds: the formats that name the types are no part of the standard.
fn bound_integers(value: &mut Value) {
    let bounds = match value.get("format").and_then(Value::as_str) {
        Some("uint8") => Some((0.into(), u8::MAX.into())),
        Some("uint16") => Some((0.into(), u16::MAX.into())),
        Some("uint32") => Some((0.into(), u32::MAX.into())),
        Some("uint" | "uint64") => Some((0.into(), u64::MAX.into())),
        Some("int32") => Some((i32::MIN.into(), i32::MAX.into())),
        Some("int64") => Some((i64::MIN.into(), i64::MAX.into())),
        _ => None,
    };
    if let (Some((min, max)), Some(object)) = (bounds, value.as_object_mut())
        && object.contains_key("type")
    {
        let (min, max): (Value, Value) = (min, max);
        object.entry("minimum").or_insert(min);
        object.entry("maximum").or_insert(max);
    }
    match value {
        Value::Object(object) => object.values_mut().for_each(bound_integers),
        Value::Array(array) => array.iter_mut().for_each(bound_integers),
        _ => {}
    }
}

/// The document itself, as far as its own description goes.
#[derive(serde::Serialize)]
#[serde(transparent)]
pub(crate) struct Document(pub(crate) Value);

impl JsonSchema for Document {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OpenApiDocument".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object", "required": ["openapi", "info", "paths"] })
    }
}
