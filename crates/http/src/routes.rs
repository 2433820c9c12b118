//! A group of routes: what describes them and what answers them, in one place, so that the two can't part.

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::document::Group;
use crate::operation::Operation;

/// One operation and what answers it.
pub(crate) struct Route<S> {
    pub(crate) operation: Operation,
    pub(crate) handler: MethodRouter<S>,
}

/// Routes that one part of the node serves, over a state of theirs.
pub struct Routes<S = ()> {
    pub(crate) tag: &'static str,
    pub(crate) about: &'static str,
    pub(crate) routes: Vec<Route<S>>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet. `tag` is what the document calls the group, `about` what it says of it.
    pub fn new(tag: &'static str, about: &'static str) -> Self {
        Self { tag, about, routes: Vec::new() }
    }

    /// Adds an operation, answered by `handler`. A method that axum doesn't know is not served.
    #[must_use]
    pub fn add<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        if let Ok(method) = MethodFilter::try_from(operation.method.clone()) {
            self.routes.push(Route { operation, handler: on(method, handler) });
        }
        self
    }

    /// What describes them.
    pub(crate) fn group(&self) -> Group<'_> {
        let operations = self.routes.iter().map(|route| &route.operation).collect();
        Group { tag: self.tag, about: self.about, operations }
    }

    /// Hands the handlers their state.
    pub fn with_state(self, state: S) -> Routes {
        let bind = |route: Route<S>| Route {
            operation: route.operation,
            handler: route.handler.with_state(state.clone()),
        };
        Routes { tag: self.tag, about: self.about, routes: self.routes.into_iter().map(bind).collect() }
    }
}
