//! Links to addresses whose nodes are not known, kept while they are used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dial::{Dialled, dial};
use crate::error::{AddressCallError, LinkEnd};
use crate::link::{Link, Role};
use crate::link_shared::LinkShared;
use crate::peers::Inner;

/// The links by address.
#[derive(Default)]
pub(crate) struct Addresses {
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// One address. Who dials holds the lock, so that others wait for the same connection.
type Slot = tokio::sync::Mutex<Option<Arc<LinkShared>>>;

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new link to `address`, or the open one unless it must be `fresh`.
    pub(crate) async fn link(
        &self,
        peers: &Arc<Inner>,
        address: &str,
        fresh: bool,
    ) -> Result<Arc<LinkShared>, AddressCallError> {
        let slot = self.lock().entry(address.to_owned()).or_default().clone();
        let mut place = slot.lock().await;
        if let Some(link) = place.as_ref().filter(|link| !fresh && link.is_open()) {
            return Ok(link.clone());
        }
        *place = None;
        let greeting = peers.greeting(None);
        let dialled = dial(address, &greeting, peers.settings.dial_times()).await;
        if dialled.is_err() {
            // Whoever waits for the place still finds it; an address that nobody asks for again is not kept.
            self.lock().remove(address);
        }
        let Dialled { socket, reader, address: peer, hello } = dialled?;
        let link = peers.new_link(hello, peer);
        *place = Some(link.clone());
        let future = Link::new(
            (socket, reader),
            link.clone(),
            peers.handler.clone(),
            Role::Dialler,
            greeting.hello,
            peers.settings.link_settings(Some(peers.settings.address_idle_max)),
        );
        if peers.is_closed() {
            link.close(LinkEnd::Ours("the node stops"));
        }
        let (ended, peers, address) = (link.clone(), peers.clone(), address.to_owned());
        peers.runtime.clone().spawn(async move {
            // A task of its own, so that a handler that panics leaves no link behind that seems open.
            let end = peers.runtime.spawn(future).await.unwrap_or(LinkEnd::Stopped);
            tracing::debug!("the connection to {address} ended: {end}");
            ended.end(end);
            peers.forget_address(&address, &ended).await;
        });
        Ok(link)
    }

    /// Forgets `address` if `link` is still its link.
    pub(crate) async fn forget(&self, address: &str, link: &Arc<LinkShared>) {
        let Some(slot) = self.lock().get(address).cloned() else { return };
        let mut place = slot.lock().await;
        if place.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, link)) {
            *place = None;
            self.lock().remove(address);
        }
    }

    /// Ends every link.
    pub(crate) fn close(&self, why: &'static str) {
        for (_, slot) in self.lock().drain() {
            // Whoever holds it is dialling, and sees that the node stops.
            if let Ok(place) = slot.try_lock()
                && let Some(link) = place.as_ref()
            {
                link.close(LinkEnd::Ours(why));
            }
        }
    }
}
