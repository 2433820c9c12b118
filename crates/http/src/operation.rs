//! What is to be known of a route before it is asked: for the limits that hold for it, and for the document that describes it.

use std::time::Duration;

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// The type of most bodies.
pub(crate) const JSON: &str = "application/json";

/// Makes the schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A parameter of the path or the query.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// `path` or `query`.
    pub(crate) place: &'static str,
    pub(crate) required: bool,
    pub(crate) about: &'static str,
    pub(crate) schema: SchemaOf,
}

/// A body that is sent or answered.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) media_type: &'static str,
    pub(crate) about: &'static str,
    pub(crate) schema: SchemaOf,
}

/// One method of one path.
#[derive(Clone, Debug)]
pub struct Operation {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) about: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) bodies: Vec<Content>,
    pub(crate) answers: Vec<(u16, Content)>,
    pub(crate) refusals: Vec<(u16, Option<Content>, &'static str)>,
    pub(crate) writes: bool,
    pub(crate) body_bytes_max: Option<usize>,
    pub(crate) time_limit: Option<Duration>,
}

impl Operation {
    /// An operation that reads. `path` is in axum's syntax (`/v1/topics/{topic}`), `id` is unique in the document, `about` one line.
    pub fn get(path: &'static str, id: &'static str, about: &'static str) -> Self {
        Self::new(Method::GET, path, id, about)
    }

    /// An operation with a body. It may still only read: see [`Operation::writes`].
    pub fn post(path: &'static str, id: &'static str, about: &'static str) -> Self {
        Self::new(Method::POST, path, id, about)
    }

    /// An operation of another method.
    pub fn new(method: Method, path: &'static str, id: &'static str, about: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            about,
            parameters: Vec::new(),
            bodies: Vec::new(),
            answers: Vec::new(),
            refusals: Vec::new(),
            writes: false,
            body_bytes_max: None,
            time_limit: None,
        }
    }

    /// A parameter in the path.
    #[must_use]
    pub fn path<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<T>(name, "path", true, about)
    }

    /// A parameter of the query that may be left out.
    #[must_use]
    pub fn query<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<T>(name, "query", false, about)
    }

    /// A parameter of the query that must be there.
    #[must_use]
    pub fn query_required<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<T>(name, "query", true, about)
    }

    fn parameter<T: JsonSchema>(
        mut self,
        name: &'static str,
        place: &'static str,
        required: bool,
        about: &'static str,
    ) -> Self {
        self.parameters.push(Parameter { name, place, required, about, schema: schema_of::<T> });
        self
    }

    /// The body is JSON of this type.
    #[must_use]
    pub fn body<T: JsonSchema>(self, about: &'static str) -> Self {
        self.body_as::<T>(JSON, about)
    }

    /// The body may be of this media type.
    #[must_use]
    pub fn body_as<T: JsonSchema>(mut self, media_type: &'static str, about: &'static str) -> Self {
        self.bodies.push(Content { media_type, about, schema: schema_of::<T> });
        self
    }

    /// It is answered with 200 and JSON of this type.
    #[must_use]
    pub fn answers<T: JsonSchema>(self, about: &'static str) -> Self {
        self.answers_with::<T>(200, JSON, about)
    }

    /// It is answered with 200 and a body of this media type.
    #[must_use]
    pub fn answers_as<T: JsonSchema>(self, media_type: &'static str, about: &'static str) -> Self {
        self.answers_with::<T>(200, media_type, about)
    }

    /// It is answered with this status and a body of this media type. A status may have several types.
    #[must_use]
    pub fn answers_with<T: JsonSchema>(
        mut self,
        status: u16,
        media_type: &'static str,
        about: &'static str,
    ) -> Self {
        self.answers.push((status, Content { media_type, about, schema: schema_of::<T> }));
        self
    }

    /// It may be refused with this status, in the one shape of errors. Those that may happen to every operation need not be named: 400, 403,
    /// 405, 414, 421, 500, 503, and of those with a body 413 and 415.
    #[must_use]
    pub fn refuses(mut self, status: u16, about: &'static str) -> Self {
        self.refusals.push((status, None, about));
        self
    }

    /// It may be refused with this status and JSON of another shape, for the sake of clients that expect that.
    #[must_use]
    pub fn refuses_as<T: JsonSchema>(mut self, status: u16, about: &'static str) -> Self {
        let content = Content { media_type: JSON, about, schema: schema_of::<T> };
        self.refusals.push((status, Some(content), about));
        self
    }

    /// It changes state: who may ask for it is decided in `access.rs`.
    #[must_use]
    pub fn writes(mut self) -> Self {
        self.writes = true;
        self
    }

    /// Bodies may have this many bytes instead of [`Options::body_bytes_max`](crate::Options).
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_bytes_max = Some(bytes);
        self
    }

    /// It may take this long instead of [`Options::time_limit`](crate::Options), the arrival of its body included, until the head of the answer is there.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }
}
