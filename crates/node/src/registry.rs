//! The connections of the node: how many there may be, and which have been silent for too long.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::{Control, Phase};

/// A connection that began something and does not go on with it is closed after this long: 30 s. Silence before the
/// first byte is legal; `connections.max.idle.ms` bounds it.
const STALLED_MS_MAX: u64 = 30_000;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionCounts {
    /// In all (`max.connections`).
    pub max: usize,
    /// From one address (`max.connections.per.ip`).
    pub max_per_ip: usize,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// There are too many.
    #[error(
        "a connection from {peer} was closed at once: {limit} connections are open, the limit (raise max.connections to allow more)"
    )]
    TooMany {
        /// Where it came from.
        peer: SocketAddr,
        /// The limit.
        limit: usize,
    },
    /// There are too many from its address.
    #[error(
        "a connection from {peer} was closed at once: {limit} connections from its address are open, the limit (raise max.connections.per.ip to allow more)"
    )]
    TooManyFromAddress {
        /// Where it came from.
        peer: SocketAddr,
        /// The limit.
        limit: usize,
    },
}

/// Every open connection.
#[derive(Debug)]
pub struct Registry {
    counts: ConnectionCounts,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: HashMap<u64, Arc<Control>>,
    by_address: HashMap<IpAddr, usize>,
    next_id: u64,
}

/// A connection's place in the registry; it is given up when this is dropped.
#[derive(Debug)]
pub struct Place {
    registry: Arc<Registry>,
    id: u64,
    address: IpAddr,
}

/// A connection that the sweep ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Where it came from.
    pub peer: SocketAddr,
    /// What it was doing.
    pub phase: Phase,
    /// Milliseconds it was silent for.
    pub silent_ms: u64,
    /// Bytes of requests that it held.
    pub held_bytes: usize,
}

impl Registry {
    /// A registry without connections.
    pub fn new(counts: ConnectionCounts) -> Self {
        Self { counts, open: Mutex::new(Open::default()) }
    }

    /// Connections that are open.
    pub fn count(&self) -> usize {
        self.open().connections.len()
    }

    /// True if no connection of a client is open; those of other nodes are not counted.
    pub fn is_free_of_clients(&self) -> bool {
        self.open().connections.values().all(|control| control.phase() == Phase::Peer)
    }

    /// Takes a place for a connection.
    ///
    /// # Errors
    /// There are too many, in all or from its address.
    pub fn admit(self: &Arc<Self>, control: &Arc<Control>) -> Result<Place, NotAdmitted> {
        let peer = control.peer();
        let mut open = self.open();
        if open.connections.len() >= self.counts.max {
            return Err(NotAdmitted::TooMany { peer, limit: self.counts.max });
        }
        let from_address = open.by_address.entry(peer.ip()).or_default();
        if *from_address >= self.counts.max_per_ip {
            return Err(NotAdmitted::TooManyFromAddress { peer, limit: self.counts.max_per_ip });
        }
        *from_address += 1;
        let id = open.next_id;
        open.next_id += 1;
        open.connections.insert(id, control.clone());
        Ok(Place { registry: self.clone(), id, address: peer.ip() })
    }

    /// Ends the connections that have been silent for too long.
    pub fn sweep(&self, idle_ms_max: u64) -> Vec<Swept> {
        let open = self.open();
        let is_over = |control: &&Arc<Control>| {
            control.silent_ms()
                > match control.phase() {
                    Phase::New | Phase::Kafka => idle_ms_max,
                    Phase::FirstBytes | Phase::Http | Phase::Ending => idle_ms_max.min(STALLED_MS_MAX),
                    Phase::Waiting | Phase::Peer => u64::MAX,
                }
        };
        open.connections.values().filter(is_over).map(end).collect()
    }

    /// Ends the connection that holds the most bytes of a request that has been silent for `silent_ms_min`: when the
    /// gate is closed by requests that don't arrive, somebody has to go.
    pub fn relieve(&self, silent_ms_min: u64) -> Option<Swept> {
        let open = self.open();
        let stuck = |control: &&Arc<Control>| {
            control.phase() == Phase::Kafka
                && control.silent_ms() >= silent_ms_min
                && control.held_bytes() > 0
        };
        let worst = open.connections.values().filter(stuck).max_by_key(|control| control.held_bytes())?;
        Some(end(worst))
    }

    /// Lets every connection answer what it took and then end.
    pub fn drain(&self) {
        let connections: Vec<_> = self.open().connections.values().cloned().collect();
        for control in connections {
            control.drain();
        }
    }

    /// Ends every connection at once, and says how many of them were clients'.
    pub fn abort(&self) -> usize {
        let connections: Vec<_> = self.open().connections.values().cloned().collect();
        for control in &connections {
            control.abort();
        }
        connections.iter().filter(|control| control.phase() != Phase::Peer).count()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(control: &Arc<Control>) -> Swept {
    control.abort();
    Swept {
        peer: control.peer(),
        phase: control.phase(),
        silent_ms: control.silent_ms(),
        held_bytes: control.held_bytes(),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.registry.open();
        open.connections.remove(&self.id);
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::CoarseClock;

    fn control(clock: &Arc<CoarseClock>, last: u8) -> Arc<Control> {
        Arc::new(Control::new(([10, 0, 0, last], 5000).into(), clock.clone()))
    }

    #[test]
    fn limits_hold_and_places_come_back() {
        let clock = Arc::new(CoarseClock::default());
        let registry = Arc::new(Registry::new(ConnectionCounts { max: 3, max_per_ip: 2 }));
        let first = registry.admit(&control(&clock, 1)).unwrap();
        let _second = registry.admit(&control(&clock, 1)).unwrap();
        let error = registry.admit(&control(&clock, 1)).unwrap_err();
        assert!(matches!(error, NotAdmitted::TooManyFromAddress { limit: 2, .. }));
        assert!(error.to_string().contains("max.connections.per.ip"));
        let _third = registry.admit(&control(&clock, 2)).unwrap();
        let error = registry.admit(&control(&clock, 3)).unwrap_err();
        assert!(matches!(error, NotAdmitted::TooMany { limit: 3, .. }));
        drop(first);
        assert!(registry.admit(&control(&clock, 1)).is_ok());
    }

    #[test]
    fn silence_is_judged_by_what_a_connection_does() {
        let clock = Arc::new(CoarseClock::default());
        let registry = Arc::new(Registry::new(ConnectionCounts { max: 10, max_per_ip: 10 }));
        let phases =
            [Phase::New, Phase::FirstBytes, Phase::Kafka, Phase::Waiting, Phase::Http, Phase::Ending];
        let controls: Vec<_> = (0u8..).zip(phases).map(|(i, _)| control(&clock, i)).collect();
        let _places: Vec<_> = controls.iter().map(|control| registry.admit(control).unwrap()).collect();
        for (control, phase) in controls.iter().zip(phases) {
            control.set_phase(phase);
        }
        assert_eq!(registry.sweep(600_000), []);
        clock.set(STALLED_MS_MAX + 1);
        let mut swept: Vec<_> = registry.sweep(600_000).into_iter().map(|s| s.phase as u8).collect();
        swept.sort();
        assert_eq!(swept, [Phase::FirstBytes as u8, Phase::Http as u8, Phase::Ending as u8]);
        clock.set(600_001);
        controls[0].touch();
        let swept: Vec<_> = registry.sweep(600_000).into_iter().map(|s| s.phase).collect();
        assert!(
            swept.contains(&Phase::Kafka) && !swept.contains(&Phase::New) && !swept.contains(&Phase::Waiting)
        );
    }

    #[test]
    fn the_largest_stuck_request_goes_first() {
        let clock = Arc::new(CoarseClock::default());
        let registry = Arc::new(Registry::new(ConnectionCounts { max: 10, max_per_ip: 10 }));
        let controls = [control(&clock, 1), control(&clock, 2), control(&clock, 3)];
        let _places: Vec<_> = controls.iter().map(|control| registry.admit(control).unwrap()).collect();
        for (control, held) in controls.iter().zip([10, 30, 20]) {
            control.set_phase(Phase::Kafka);
            control.set_held_bytes(held);
        }
        assert_eq!(registry.relieve(5_000), None);
        clock.set(6_000);
        controls[1].touch();
        assert_eq!(registry.relieve(5_000).map(|s| s.held_bytes), Some(20));
    }
}
