//! What a connection hands its requests to.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use chronik_broker::{Broker, ConnectionContext, Outcome};

/// Takes the request frames of one connection, in order.
pub trait Service: Send + Unpin + 'static {
    /// One frame without its length prefix. Everything that fixes the order of requests happens before this returns.
    fn handle(&self, frame: Bytes) -> Outcome;

    /// All frames of one read were handled.
    fn end_of_read(&self);

    /// Ready if more requests may be read; else the task is woken when they may.
    fn poll_unpressured(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The broker, as one connection sees it.
pub struct BrokerService {
    broker: Arc<Broker>,
    context: Arc<ConnectionContext>,
    /// Ends when storage has caught up; there only while it is behind.
    relief: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl BrokerService {
    /// Requests of the connection `context` go to `broker`.
    pub fn new(broker: Arc<Broker>, context: Arc<ConnectionContext>) -> Self {
        Self { broker, context, relief: None }
    }
}

impl Service for BrokerService {
    fn handle(&self, frame: Bytes) -> Outcome {
        self.broker.handle(&self.context, frame)
    }

    fn end_of_read(&self) {
        self.broker.end_of_read();
    }

    fn poll_unpressured(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.broker.pressured() {
            let broker = self.broker.clone();
            let relief =
                self.relief.get_or_insert_with(|| Box::pin(async move { broker.pressure_relieved().await }));
            if relief.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.relief = None;
        }
        self.relief = None;
        Poll::Ready(())
    }
}
