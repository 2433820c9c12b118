//! What a connection hands its requests to.

use std::sync::Arc;

use bytes::Bytes;
use chronik_broker::{Broker, ConnectionContext, Outcome};

/// Takes the request frames of one connection, in order.
pub trait Service: Send + Unpin + 'static {
    /// One frame without its length prefix. Everything that fixes the order of requests happens before this returns.
    fn handle(&self, frame: Bytes) -> Outcome;

    /// All frames of one read were handled.
    fn end_of_read(&self);

    /// True while the connection should not take more requests on top of those that wait for an answer.
    fn pressured(&self) -> bool;
}

/// The broker, as one connection sees it.
pub struct BrokerService {
    broker: Arc<Broker>,
    context: Arc<ConnectionContext>,
}

impl BrokerService {
    /// Requests of the connection `context` go to `broker`.
    pub fn new(broker: Arc<Broker>, context: Arc<ConnectionContext>) -> Self {
        Self { broker, context }
    }
}

impl Service for BrokerService {
    fn handle(&self, frame: Bytes) -> Outcome {
        self.broker.handle(&self.context, frame)
    }

    fn end_of_read(&self) {
        self.broker.end_of_read();
    }

    fn pressured(&self) -> bool {
        self.broker.pressured()
    }
}
